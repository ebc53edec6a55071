// formulas_cpu.h: the table of formulas for this processor: plain vectorised loops.
#pragma once
#include "../exec/for_each.h"
#include "formulas.h"

namespace thalweg {

struct CpuLoop {
  template <class N, class F>
  TW_FLATTEN static void fill(int64_t n, View<N> y, F f) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y.set(i, f(i));
  }
};

template <class Add>
std::vector<Formula> formulas_on_cpu(Add add) {
  FormulaTable<CpuLoop> table;
  add(table);
  return table.entries();
}

}  // namespace thalweg
