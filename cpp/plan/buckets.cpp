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

bool reads_from(const Node& n, const Node& before) {
  return std::any_of(n.in.begin(), n.in.end(),
                     [&](Value v) { return std::find(before.out.begin(), before.out.end(), v) != before.out.end(); });
}

}  // namespace

std::vector<int> exchanged_first(const std::vector<Node>& nodes, const std::vector<char>& live,
                                 const std::map<Value, int64_t>& exchanged) {
  auto made = [&](int n) {
    int64_t size = 0;
    for (Value v : nodes[size_t(n)].out)
      if (auto found = exchanged.find(v); found != exchanged.end()) size += found->second;
    return size;
  };
  auto goes_before = [&](int n, int before) {
    return made(n) > 0 && (made(before) == 0 || made(n) < made(before) / 8);
  };
  std::vector<int> all;
  for (int n = 0; n < int(nodes.size()); n++) {
    if (!live[size_t(n)]) continue;
    auto at = all.end();
    while (at != all.begin() && goes_before(n, at[-1]) && !reads_from(nodes[size_t(n)], nodes[size_t(at[-1])])) --at;
    all.insert(at, n);
  }
  return all;
}

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
