// awake.h: a clock that stands still while its process does (stopped, as by a scheduler that suspends the whole job):
// what a wait lasted by it is time that the others had to come, and may be held against a limit.
#pragma once
#include <algorithm>
#include <chrono>

namespace thalweg {

class AwakeClock {
 public:
  double seconds() {  // since it was made; asked for all the time
    const auto now = Clock::now();
    seconds_ += std::min(kLongest, std::chrono::duration<double>(now - last_).count());
    last_ = now;
    return seconds_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr double kLongest = 0.1;  // that counts between two looks: more than a process that runs lets pass
  Clock::time_point last_ = Clock::now();
  double seconds_ = 0;
};

}  // namespace thalweg
