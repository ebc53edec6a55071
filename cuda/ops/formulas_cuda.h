// formulas_cuda.h: the table of formulas (cpp/ops/formulas.h) for the GPU.
#pragma once
#include "../../cpp/ops/formulas.h"
#include "../exec/for_each.h"

namespace thalweg {

struct CudaLoop {
  template <class F>
  static void run(int64_t n, const F& f) {
    for_each(n, f);
  }
};
using CudaFormulas = FormulaTable<CudaLoop>;

}  // namespace thalweg
