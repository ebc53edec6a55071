// update.cpp: optimizer updates of a flat arena of parameters against the machine's copy bandwidth.
//   update [threads ...]        (default: 1 2)
// Columns: milliseconds, nanoseconds a parameter, GB/s counting each arena read and written once, and that rate as a
// share of a plain copy's in the same rounds.
#include <cstdio>
#include <cstdlib>

#include "memory.h"
#include "ops/kernels.h"

using namespace thalweg;
using namespace thalweg::bench;

namespace {

struct Case {
  const char* name;
  UpdateRule rule;
  bool momentum;
  int streams;  // arenas read + arenas written
};

const Case kCases[] = {
    {"SGD", {Rule::sgd}, false, 3},         {"SGD, momentum", {Rule::sgd}, true, 5},
    {"Adagrad", {Rule::adagrad}, false, 5}, {"RMSprop", {Rule::rmsprop}, false, 5},
    {"Adam", {Rule::adam}, false, 7},
};

void run(const Exec& exec, int64_t n) {
  Arena w = random_floats(n, 1), g = random_floats(n, 2), state(2 * n * 4), copied(n * 4);
  std::vector<Job> jobs{[&] { copy(exec, copied.data(), w.data(), n * 4); },
                        [&] { kernels().sum_of_squares(exec, DType::f32, g.data(), n); }};
  const std::vector<Rates> rates{{.lr = 1e-6, .momentum = 0.9, .eps = 1e-3}};
  const std::vector<Segment> segments{{0, n, 0}};
  for (const Case& c : kCases)
    jobs.push_back([&, c] {
      kernels().update(exec, DType::f32, {c.rule, c.momentum, 1000}, rates, segments, w.data(), g.data(), state.data(),
                       n);
    });
  const Race r = race(jobs, 7, 0.02);
  const double copy_rate = 2.0 * double(n) * 4 / r.time(0);
  auto line = [&](const char* name, size_t i, int streams) {
    const double rate = streams * double(n) * 4 / r.time(i);
    std::printf("  %-16s %8.3f ms  %6.3f ns  %6.1f GB/s  %5.1f %% of copy\n", name, r.time(i) * 1e3,
                r.time(i) / double(n) * 1e9, rate / 1e9, 100 * rate / copy_rate);
  };
  std::printf("%ld parameters, %d thread%s, copy %.1f GB/s\n", long(n), exec.pool.threads(),
              exec.pool.threads() > 1 ? "s" : "", copy_rate / 1e9);
  line("norm", 1, 1);
  for (size_t i = 0; i < std::size(kCases); i++) line(kCases[i].name, i + 2, kCases[i].streams);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int> threads;
  for (int i = 1; i < argc; i++) threads.push_back(std::atoi(argv[i]));
  if (threads.empty()) threads = {1, 2};
  std::printf("instruction set %s\n", kernels().isa);
  for (int t : threads) {
    const auto pool = make_pool(t);
    for (int64_t n : {10'000, 1'000'000, 10'000'000}) run(Exec{*pool}, n);
  }
}
