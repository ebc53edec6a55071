// products.h: what the benchmarks of products share: their command line, and convolutions of square images.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "onednn.h"
#include "ops/kernels.h"

namespace thalweg::bench {

// body(exec) for every number of threads on the command line; default: 1 and 2.
template <class Body>
int for_threads(int argc, char** argv, const Body& body) {
  std::vector<int> threads;
  for (int i = 1; i < argc; i++) threads.push_back(std::atoi(argv[i]));
  if (threads.empty()) threads = {1, 2};
  std::printf("instruction set %s, oneDNN %s\n", kernels().isa, have_onednn() ? "present" : "absent");
  for (int t : threads) {
    const auto pool = make_pool(t);
    body(Exec{*pool});
  }
  return 0;
}

// Padded so that an image keeps its size at stride 1.
inline Conv square(int64_t n, int64_t size, int64_t c, int64_t out, int64_t kernel, int64_t stride = 1,
                   int64_t groups = 1) {
  Conv v{n, size, size, c, out, kernel, kernel};
  v.stride_h = v.stride_w = stride;
  v.pad_top = v.pad_bottom = v.pad_left = v.pad_right = kernel / 2;
  v.groups = groups;
  return v;
}

}  // namespace thalweg::bench
