#include "buckets.h"

#include <algorithm>

namespace thalweg {
namespace {

int64_t elements(const Bucket& b) {
  int64_t n = 0;
  for (const Range& r : b.ranges) n += r.end - r.begin;
  return n;
}

// Neighbours are one range, with the zeros that fill up the cache line between them.
std::vector<Range> joined(std::vector<Range> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  std::vector<Range> all;
  for (const Range& r : ranges) {
    if (!all.empty() && r.begin - all.back().end < kAlign / 4) all.back().end = r.end;
    else all.push_back(r);
  }
  return all;
}

}  // namespace

std::vector<Bucket> make_buckets(std::vector<Bucket> gradients, int64_t element_bytes, int64_t bucket_bytes) {
  std::stable_sort(gradients.begin(), gradients.end(), [](const Bucket& a, const Bucket& b) { return a.at < b.at; });
  int64_t bytes = 0;
  std::vector<Bucket> buckets;
  std::vector<Range> ranges;
  for (const Bucket& g : gradients) {
    ranges.insert(ranges.end(), g.ranges.begin(), g.ranges.end());
    bytes += elements(g) * element_bytes;
    if (bytes < bucket_bytes && &g != &gradients.back()) continue;
    buckets.push_back({g.at, joined(std::move(ranges))});
    ranges = {};
    bytes = 0;
  }
  return buckets;
}

}  // namespace thalweg
