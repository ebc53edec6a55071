#include "deadline.h"

#include <unistd.h>

#include <chrono>

#include "awake.h"

namespace thalweg {

Deadline::Deadline(double seconds, std::string why, int exit_code)
    : thread_([this, seconds, why = std::move(why) + "\n", exit_code] { watch(seconds, why, exit_code); }) {}

void Deadline::meet() {
  {
    const std::lock_guard lock(mutex_);
    met_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Deadline::watch(double seconds, const std::string& why, int exit_code) {
  constexpr auto kLook = std::chrono::milliseconds(50);
  AwakeClock clock;
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, kLook, [this] { return met_; })) {
    if (clock.seconds() < seconds) continue;
    if (write(STDERR_FILENO, why.data(), why.size()) < 0) {}  // nobody reads it
    _exit(exit_code);
  }
}

}  // namespace thalweg
