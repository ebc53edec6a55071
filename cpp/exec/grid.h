// grid.h: how threads share a matrix product: C in a grid of cells, each a product of its own on one thread. What two
// cells read is packed in both. Packed once, it would come out of another core's caches, which takes longer.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>

namespace thalweg {

constexpr int64_t kTwiceBytes = 1 << 20;  // of an operand that several threads read, and pack each for itself
constexpr double kCutNs = 0.05;           // an element of C whose rows are cut

struct Grid {
  struct Cell {
    int64_t row, rows, column, columns;
  };

  static constexpr double kNever = std::numeric_limits<double>::infinity();  // a cost: no such cell

  int64_t m = 0, n = 0, unit = 1;  // columns are cut at multiples of `unit`
  int64_t down = 1, along = 1;     // cells

  // One cell for each thread, where C is large enough, such that cost(rows, columns) of the largest cell is least.
  template <class Cost>
  static Grid of(int64_t m, int64_t n, int64_t unit, int threads, const Cost& cost) {
    Grid best{m, n, unit};
    if (threads == 1) return best;
    double least = kNever;
    for (int64_t down = 1; down <= std::min<int64_t>(m, threads); down++) {
      const Grid g{m, n, unit, down, std::clamp<int64_t>(threads / down, 1, (n + unit - 1) / unit)};
      const Cell largest = g.cell(g.cells() - 1);  // shares grow
      const double c = cost(largest.rows, std::min(n, (largest.columns + unit - 1) / unit * unit));
      if (c < least) best = g, least = c;
    }
    return best;
  }
  // Rows of A and columns of B, in elements of one k, that cells of this size read besides others.
  static int64_t twice(int64_t m, int64_t n, int64_t rows, int64_t columns) {
    return (columns < n ? rows : 0) + (rows < m ? columns : 0);
  }
  int64_t cells() const { return down * along; }
  Cell cell(int64_t i) const {
    const int64_t y = i / along, x = i % along, units = (n + unit - 1) / unit;
    const int64_t row = m * y / down, column = units * x / along * unit;
    return {row, m * (y + 1) / down - row, column, std::min(n, units * (x + 1) / along * unit) - column};
  }
};

}  // namespace thalweg
