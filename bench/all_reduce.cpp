// all_reduce.cpp: the all-reduce between ranks that are threads, against a copy of the same bytes by one thread.
//   all_reduce [ranks ...]      (default: 2)
// Columns: microseconds a call, GB/s of payload, and how many times as long as the copy.
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "comm/communicator.h"
#include "memory.h"
#include "ops/kernels.h"

using namespace thalweg;
using namespace thalweg::bench;

namespace {

double copy_seconds(int64_t bytes) {
  Arena a(bytes), b(bytes);
  return race({[&] { std::memcpy(b.data(), a.data(), size_t(bytes)); }}, 7).time(0);
}

// The median over rounds of rank 0's time for one of `calls` calls in a row.
double reduce_seconds(int ranks, int64_t bytes) {
  auto comms = make_threads(ranks);
  const Merge merge = [](std::byte* into, Ranks, const std::byte* from, Ranks, int64_t n) {
    kernels().merge_sums(DType::f32, into, from, 0, n);
  };
  const int calls = int(std::max<int64_t>(3, std::min<int64_t>(2000, (8 << 20) / bytes)));
  std::vector<double> rounds;
  auto work = [&](int rank) {
    Arena data(bytes);
    for (int k = 0; k < 9; k++) {
      comms[rank]->barrier();
      const double start = now();
      for (int i = 0; i < calls; i++) comms[rank]->all_reduce(data.data(), bytes / 4, 4, merge);
      if (rank == 0) rounds.push_back((now() - start) / calls);
    }
  };
  std::vector<std::thread> threads;
  for (int r = 1; r < ranks; r++) threads.emplace_back(work, r);
  work(0);
  for (auto& t : threads) t.join();
  return median(rounds);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int> ranks;
  for (int i = 1; i < argc; i++) ranks.push_back(std::atoi(argv[i]));
  if (ranks.empty()) ranks = {2};
  for (int r : ranks)
    for (int64_t bytes : {4, 1 << 10, 64 << 10, 1 << 20, 16 << 20, 100 << 20}) {
      const double t = reduce_seconds(r, bytes), copied = copy_seconds(bytes);
      std::printf("%d ranks, %10ld bytes  %10.2f us  %7.2f GB/s  %6.1f x a copy\n", r, long(bytes), t * 1e6,
                  double(bytes) / t / 1e9, t / copied);
    }
}
