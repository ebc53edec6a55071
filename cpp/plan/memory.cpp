#include "memory.h"

#include <algorithm>
#include <numeric>

#include "../tensor/arena.h"

namespace thalweg {

int64_t place_blocks(std::vector<Lifetime>& blocks) {
  std::vector<int> order(blocks.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return blocks[a].bytes > blocks[b].bytes; });
  std::vector<int> placed;  // sorted by offset
  int64_t total = 0;
  for (int i : order) {
    Lifetime& b = blocks[i];
    const int64_t bytes = align_up(std::max<int64_t>(b.bytes, 1));
    int64_t at = 0;
    for (int j : placed) {
      const Lifetime& other = blocks[j];
      if (other.last < b.first || b.last < other.first) continue;
      if (at + bytes <= other.offset) break;
      at = std::max(at, other.offset + align_up(std::max<int64_t>(other.bytes, 1)));
    }
    b.offset = at;
    total = std::max(total, at + bytes);
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), at, [&](int64_t o, int j) { return o < blocks[j].offset; }), i);
  }
  return total;
}

}  // namespace thalweg
