// formulas_train.cu: the part of the table in cpp/ops/formulas_train.h, on the GPU.
#include "../../cpp/ops/formulas_train.h"
#include "formulas_cuda.h"

namespace thalweg {

std::vector<Formula> train_formulas() {
  CudaFormulas table;
  add_train(table);
  return table.entries();
}

}  // namespace thalweg
