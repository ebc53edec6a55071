// arena.h: one aligned block of memory, made once; a large one has pages of its own, huge where the system has them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace thalweg {

inline constexpr int64_t kAlign = 64;  // bytes: a cache line, and the widest vector
inline int64_t align_up(int64_t n, int64_t to = kAlign) { return (n + to - 1) / to * to; }

// Throws OutOfMemory for more than the machine has at all: a system may promise that, and end the process that fills
// it.
void check_memory(int64_t bytes);

struct FreeArena {
  int64_t pages = 0;  // bytes that were taken from the system as pages; 0: from the heap
  void operator()(std::byte* p) const;
};

class Arena {
 public:
  Arena() = default;
  explicit Arena(int64_t bytes);  // zeroed; throws OutOfMemory
  std::byte* data() const { return data_.get(); }
  int64_t bytes() const { return bytes_; }
  void grow(int64_t bytes);  // keeps nothing

 private:
  std::unique_ptr<std::byte[], FreeArena> data_;
  int64_t bytes_ = 0;
};

}  // namespace thalweg
