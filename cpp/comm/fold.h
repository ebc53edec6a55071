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
    const int64_t chunk = chunk_of(element_bytes), slot_bytes = chunk * element_bytes;
    std::byte* slots = slots_.data();
    for (int64_t at = 0; at < count; at += chunk) {
      const int64_t n = std::min(chunk, count - at), bytes = n * element_bytes;
      fold_tree(
          size,
          [&](int64_t r, int slot) {
            std::memcpy(slots + slot * slot_bytes, from(int(r)) + at * element_bytes, size_t(bytes));
            held_[size_t(slot)] = {int(r), int(r) + 1};
          },
          [&](int a, int b) {
            merge(slots + a * slot_bytes, held_[size_t(a)], slots + b * slot_bytes, held_[size_t(b)], n);
            held_[size_t(a)].last = held_[size_t(b)].last;
          });
      std::memcpy(out + at * element_bytes, slots, size_t(bytes));
    }
  }

 private:
  static constexpr int64_t kChunkBytes = 8 << 10;  // so that the stack of partial results stays in L1
  static int64_t chunk_of(int64_t element_bytes) {
    return std::max<int64_t>(1, kChunkBytes / std::max<int64_t>(1, element_bytes));
  }
  std::vector<std::byte> slots_;  // the stack of partial results
  std::vector<Ranks> held_;       // what each of them covers
};

}  // namespace thalweg
