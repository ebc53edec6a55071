// formulas_train.cpp: moments, norms, losses, clipping and optimizer rules, on the CPU.
#include "formulas_train.h"

#include "formulas_cpu.h"

namespace thalweg {

std::vector<Formula> train_formulas() {
  return formulas_on_cpu([](auto& table) { add_train(table); });
}

}  // namespace thalweg
