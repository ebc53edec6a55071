// buckets.h: which gradients ranks exchange together.
#pragma once
#include "program.h"

namespace thalweg {

struct Bucket {
  int at;  // the instruction that makes the last of its gradients
  std::vector<Range> ranges;
};

// Groups gradients, as they are made, into buckets of at least `bucket_bytes`, but for the last one. Ranges that are
// neighbours in the arena become one.
std::vector<Bucket> make_buckets(std::vector<Bucket> gradients, int64_t element_bytes, int64_t bucket_bytes);

}  // namespace thalweg
