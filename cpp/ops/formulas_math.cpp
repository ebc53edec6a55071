// formulas_math.cpp: elementary functions and activations, on the CPU.
#include "formulas_math.h"

#include "formulas_cpu.h"

namespace thalweg {

std::vector<Formula> math_formulas() {
  return formulas_on_cpu([](auto& table) { add_math(table); });
}

}  // namespace thalweg
