// fold.h: values of all ranks folded in the fixed tree of communicator.h, a chunk at a time.
#pragma once
#include <algorithm>
#include <cstring>

#include "../exec/shards.h"
#include "communicator.h"

namespace thalweg {

class Folder {
 public:
  // Takes the memory of fold(), which must not fail: the other ranks rely on this one then.
  void prepare(int size, int64_t element_bytes) {
    const int64_t bytes = chunk_of(element_bytes) * element_bytes * tree_slots(size);
    if (int64_t(slots_.size()) < bytes) slots_.resize(size_t(bytes));
    held_.resize(size_t(tree_slots(size)));
  }
  // out = `count` elements folded over the ranks; from(r): where rank r's lie. out may be one of them.
  template <class From>
  void fold(int size, int64_t count, int64_t element_bytes, const Merge& merge, const From& from, std::byte* out) {
    if (size == 2) return fold_two(count, element_bytes, merge, from(0), from(1), out);
    const int64_t chunk = chunk_of(element_bytes), slot_bytes = chunk * element_bytes;
    for (int64_t at = 0; at < count; at += chunk) {
      const int64_t n = std::min(chunk, count - at), bytes = n * element_bytes;
      fold_tree(
          size,
          [&](int64_t r, int slot) { held_[size_t(slot)] = {{int(r), int(r) + 1}, from(int(r)) + at * element_bytes}; },
          [&](int a, int b) {
            Held &left = held_[size_t(a)], &right = held_[size_t(b)];
            std::byte* sum = slots_.data() + a * slot_bytes;
            if (left.at != sum) std::memcpy(sum, left.at, size_t(bytes));
            merge(sum, left.ranks, right.at, right.ranks, n);
            left = {{left.ranks.first, right.ranks.last}, sum};
          });
      if (out + at * element_bytes != held_[0].at) std::memcpy(out + at * element_bytes, held_[0].at, size_t(bytes));
    }
  }

 private:
  // A merge is commutative: the result is made where one of the two lies already.
  void fold_two(int64_t count, int64_t element_bytes, const Merge& merge, const std::byte* a, const std::byte* b,
                std::byte* out) {
    if (count == 0) return;
    const bool second = out == b;
    if (!second && out != a) std::memcpy(out, a, size_t(count * element_bytes));
    merge(out, {second, second + 1}, second ? a : b, {!second, !second + 1}, count);
  }

  static constexpr int64_t kChunkBytes = 8 << 10;  // so that the stack of partial results stays in L1
  static int64_t chunk_of(int64_t element_bytes) {
    return std::max<int64_t>(1, kChunkBytes / std::max<int64_t>(1, element_bytes));
  }
  std::vector<std::byte> slots_;  // the stack of partial results
  struct Held {
    Ranks ranks;
    const std::byte* at;
  };
  std::vector<Held> held_;  // what each level of the stack covers, and where it lies
};

}  // namespace thalweg
