// grid_check.h: how threads share C (exec/grid.h).
#pragma once
#include <algorithm>

#include "exec/grid.h"
#include "products_check.h"

namespace thalweg {

// The cells of a grid cover C, each element once; where too much would be read twice, C is one cell.
inline void check_grids() {
  for (int64_t m : {1, 5, 128})
    for (int64_t n : {1, 31, 32, 33, 500})
      for (int threads : {1, 2, 3, 5, 8}) {
        for (int64_t side : {0, 1, 2}) {  // what is dear: nothing in particular, cut rows, cut columns
          auto cost = [&](int64_t rows, int64_t columns) {
            return double(rows * columns) + (side == 1 && columns < n ? 1e9 : side == 2 && rows < m ? 1e9 : 0);
          };
          const Grid g = Grid::of(m, n, 4, 32, threads, cost);
          std::vector<int> seen(size_t(m * n));
          for (int64_t i = 0; i < g.cells(); i++) {
            const Grid::Cell c = g.cell(i);
            CHECK(c.rows > 0 && c.columns > 0 && c.column % 32 == 0, "grid of %ld x %ld: cell %ld", m, n, i);
            for (int64_t r = c.row; r < c.row + c.rows; r++)
              for (int64_t j = c.column; j < c.column + c.columns; j++) seen[size_t(r * n + j)]++;
          }
          CHECK(g.cells() <= threads && std::ranges::count(seen, 1) == m * n, "grid of %ld x %ld: not covered", m, n);
          CHECK(side != 1 || g.along == 1 || m < threads, "grid of %ld x %ld: rows are cut", m, n);
          CHECK(side != 2 || g.down == 1 || n <= 32 * (threads - 1), "grid of %ld x %ld: columns are cut", m, n);
        }
        auto work = [](int64_t rows, int64_t columns) { return double(rows * columns); };
        CHECK(Grid::of(m, n, Grid::kTwiceBytes + 1, 32, threads, work).cells() == 1, "grid of %ld x %ld: cut", m, n);
      }
}

}  // namespace thalweg
