// shape.h: the extents of a tensor, row-major, channels last. Sizes are 64-bit and their product is checked.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>
#include <vector>

#include "error.h"

namespace thalweg {

class Shape {
 public:
  static constexpr int kMaxRank = 8;
  Shape() = default;
  Shape(std::initializer_list<int64_t> d) : Shape(std::span(d.begin(), d.size())) {}
  explicit Shape(std::span<const int64_t> d) {
    if (d.size() > kMaxRank) fail("a tensor has at most ", kMaxRank, " axes, got ", d.size());
    for (int64_t n : d) push_back(n);
  }
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return d_[i]; }
  int64_t& operator[](int i) { return d_[i]; }
  int64_t back() const { return d_[rank_ - 1]; }
  const int64_t* begin() const { return d_.data(); }
  const int64_t* end() const { return d_.data() + rank_; }
  void push_back(int64_t n) {
    if (rank_ == kMaxRank) fail("a tensor has at most ", kMaxRank, " axes");
    d_[rank_++] = n;
  }
  // The product of the extents of axes [from, to); an overflow of 63 bits is a ValueError.
  int64_t product(int from, int to) const {
    int64_t n = 1;
    for (int i = from; i < to; i++)
      if (__builtin_mul_overflow(n, d_[i], &n)) fail("the size of shape ", *this, " exceeds 63 bits");
    return n;
  }
  int64_t size() const { return product(0, rank_); }
  // Viewed as a matrix (rows, channels): the last axis is the channel.
  int64_t channels() const { return rank_ ? back() : 1; }
  int64_t rows() const { return rank_ ? product(0, rank_ - 1) : 1; }
  std::vector<int64_t> vector() const { return {begin(), end()}; }
  friend bool operator==(const Shape& a, const Shape& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }
  friend std::ostream& operator<<(std::ostream& s, const Shape& a) {  // as Python prints a tuple
    s << '(';
    for (int i = 0; i < a.rank(); i++) s << (i ? ", " : "") << a[i];
    return s << (a.rank() == 1 ? ",)" : ")");
  }

 private:
  std::array<int64_t, kMaxRank> d_{};
  int rank_ = 0;
};

}  // namespace thalweg
