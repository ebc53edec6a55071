// timing.h: contenders take turns in one process; a figure is the median over rounds, a ratio the median of the
// ratios of the rounds, so that a neighbour who takes the machine for a while does not choose the winner.
#pragma once
#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

namespace thalweg::bench {

using Job = std::function<void()>;

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
inline double median(std::vector<double> v) {
  if (v.empty()) return 0;
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

struct Race {
  std::vector<std::vector<double>> seconds;  // [contender][round], of one call
  double time(size_t i) const { return median(seconds[i]); }
  double best(size_t i) const { return *std::min_element(seconds[i].begin(), seconds[i].end()); }
  // How many times faster contender i is than contender j.
  double speedup(size_t i, size_t j) const {
    std::vector<double> r;
    for (size_t k = 0; k < seconds[i].size(); k++) r.push_back(seconds[j][k] / seconds[i][k]);
    return median(r);
  }
};

// Empty jobs are absent contenders: their times are 0. `pause` lets the threads of one contender fall asleep before
// the next one starts.
inline Race race(const std::vector<Job>& jobs, int rounds = 9, double block = 0.01, double pause = 0) {
  Race result{std::vector<std::vector<double>>(jobs.size())};
  std::vector<int64_t> calls(jobs.size(), 0);
  for (size_t i = 0; i < jobs.size(); i++) {
    if (!jobs[i]) continue;
    jobs[i]();
    const double start = now();
    jobs[i]();
    calls[i] = std::max<int64_t>(1, int64_t(block / std::max(1e-9, now() - start)));
  }
  for (int r = 0; r < rounds; r++)
    for (size_t i = 0; i < jobs.size(); i++) {
      if (pause > 0) std::this_thread::sleep_for(std::chrono::duration<double>(pause));
      if (jobs[i]) jobs[i]();  // wakes its threads
      const double start = now();
      for (int64_t k = 0; k < calls[i]; k++) jobs[i]();
      result.seconds[i].push_back(calls[i] ? (now() - start) / double(calls[i]) : 0);
    }
  return result;
}

}  // namespace thalweg::bench
