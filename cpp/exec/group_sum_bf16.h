// group_sum_bf16.h: the order of matmul_bf16.h, one element at a time.
#pragma once
#include "matmul_bf16.h"

namespace thalweg {

inline float operand_bf16(float x) { return to_float(to_bf16(x)); }
inline float operand_bf16(Bf16 x) { return to_float(x); }
inline void put_bf16(float x, float* to) { *to = x; }
inline void put_bf16(float x, Bf16* to) { *to = to_bf16(x); }
inline float flushed(float x) { return abs(x) < 0x1p-126f ? copy_sign(0.0f, x) : x; }

class GroupSum {
 public:
  void add(float a, float b) {
    chain_[k_ & 1] = flushed(fma(flushed(a), flushed(b), chain_[k_ & 1]));
    if (++k_ == kGroup) close();
  }
  float close() {
    if (k_ > 0) sum_ = flushed(sum_ + flushed(chain_[0] + chain_[1]));
    chain_[0] = chain_[1] = 0, k_ = 0;
    return sum_;
  }

 private:
  float sum_ = 0, chain_[2] = {};
  int64_t k_ = 0;
};

}  // namespace thalweg
