// formulas_scalar.cu: the part of the table in cpp/ops/formulas_scalar.h, on the GPU.
#include "../../cpp/ops/formulas_scalar.h"
#include "formulas_cuda.h"

namespace thalweg {

std::vector<Formula> scalar_formulas() {
  CudaFormulas table;
  add_scalar(table);
  return table.entries();
}

}  // namespace thalweg
