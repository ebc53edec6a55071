// formulas_cuda.h: the table of formulas (cpp/ops/formulas.h) for the GPU.
#pragma once
#include "../../cpp/ops/formulas.h"
#include "../exec/for_each.h"

namespace thalweg {

struct CudaLoop {
  template <class N, class F>
  static void fill(int64_t n, View<N> y, const F& f) {
    thalweg::fill(n, y, f);
  }
};
using CudaFormulas = FormulaTable<CudaLoop>;

}  // namespace thalweg
