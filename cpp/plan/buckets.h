// buckets.h: when ranks exchange gradients, and which together.
#pragma once
#include <map>

#include "program.h"

namespace thalweg {

// The live nodes in the order in which they run: as they were recorded, but a gradient that is exchanged comes before
// what needs it not, so that the exchange begins early, and a small one before a large one, so that it goes along.
// exchanged: these gradients, and how many elements each has.
std::vector<int> exchanged_first(const std::vector<Node>& nodes, const std::vector<char>& live,
                                 const std::map<Value, int64_t>& exchanged);

struct Bucket {
  int at;  // the instruction that makes the last of its gradients
  std::vector<Range> ranges;
};

// Groups gradients, as they are made, into buckets of at least `bucket_bytes`, but for the last one. Ranges that are
// neighbours in the arena become one.
std::vector<Bucket> make_buckets(std::vector<Bucket> gradients, int64_t element_bytes, int64_t bucket_bytes);

}  // namespace thalweg
