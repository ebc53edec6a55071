// grid.h: how threads share a matrix product: C in a grid of cells, each a product of its own on one thread. What two
// cells read is packed in both. Packed once, it would come out of another core's caches, which takes longer.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>

namespace thalweg {

struct Grid {
  static constexpr int64_t kTwiceBytes = 1 << 20;  // of operands that several cells read, and pack each for itself
  static constexpr double kCutNs = 0.05;           // an element of C whose rows are cut

  struct Cell {
    int64_t row, rows, column, columns;
  };

  int64_t m = 0, n = 0, unit = 1;  // columns are cut at multiples of `unit`
  int64_t down = 1, along = 1;     // cells

  // One cell for each thread, where C is large enough, such that cost(rows, columns) of the largest cell, in ns, is
  // least; one cell in all where others would read too much twice. k_bytes: of a row of A or a column of B.
  template <class Cost>
  static Grid of(int64_t m, int64_t n, int64_t k_bytes, int64_t unit, int threads, const Cost& cost) {
    Grid best{m, n, unit};
    if (threads == 1) return best;
    double least = std::numeric_limits<double>::infinity();
    for (int64_t down = 1; down <= std::min<int64_t>(m, threads); down++) {
      const Grid g{m, n, unit, down, std::clamp<int64_t>(threads / down, 1, (n + unit - 1) / unit)};
      const Cell largest = g.cell(g.cells() - 1);  // shares grow
      const int64_t rows = largest.rows, columns = std::min(n, (largest.columns + unit - 1) / unit * unit);
      const bool cut = columns < n;
      if (((cut ? rows : 0) + (rows < m ? columns : 0)) * k_bytes > kTwiceBytes) continue;
      const double c = cost(rows, columns) + (cut ? kCutNs * double(rows * columns) : 0);
      if (c < least) best = g, least = c;
    }
    return best;
  }
  int64_t cells() const { return down * along; }
  Cell cell(int64_t i) const {
    const int64_t y = i / along, x = i % along, units = (n + unit - 1) / unit;
    const int64_t row = m * y / down, column = units * x / along * unit;
    return {row, m * (y + 1) / down - row, column, std::min(n, units * (x + 1) / along * unit) - column};
  }
};

}  // namespace thalweg
