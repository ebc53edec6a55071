// formulas_scalar.cpp: schedules, initial deviations, Philox, on the CPU.
#include "formulas_scalar.h"

#include "formulas_cpu.h"

namespace thalweg {

std::vector<Formula> scalar_formulas() {
  return formulas_on_cpu([](auto& table) { add_scalar(table); });
}

}  // namespace thalweg
