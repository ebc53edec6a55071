// formulas_math.cu: the part of the table in cpp/ops/formulas_math.h, on the GPU.
#include "../../cpp/ops/formulas_math.h"
#include "formulas_cuda.h"

namespace thalweg {

std::vector<Formula> math_formulas() {
  CudaFormulas table;
  add_math(table);
  return table.entries();
}

}  // namespace thalweg
