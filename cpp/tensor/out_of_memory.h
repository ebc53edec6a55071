// out_of_memory.h: memory that can't be had, by name, and the size from which on that is sure. Python: MemoryError.
#pragma once
#include <new>
#include <string>

#include "shape.h"

namespace thalweg {

class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

// f(), and where its memory can't be had, an error that begins with what() and goes on with how much that was.
template <class What, class F>
auto allocating(const What& what, F&& f) {
  try {
    return f();
  } catch (const std::bad_alloc& e) { throw OutOfMemory(text(what(), ": ", e.what())); }
}

// Elements of one tensor: 64 TiB of float32. Sums and products of sizes below stay far from 63 bits.
inline constexpr int64_t kMostElements = int64_t(1) << 44;

template <class... What>
void check_size(const Shape& s, const What&... what) {
  if (s.size() > kMostElements)
    throw OutOfMemory(text(what..., "shape ", s, " has ", s.size(), " elements, more than any memory can hold"));
}

}  // namespace thalweg
