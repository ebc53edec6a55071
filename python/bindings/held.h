// held.h: how a call takes hold of a session, and how a long one hears of signals.
#pragma once
#include <chrono>

#include "arrays.h"

namespace thalweg::bindings {

// Holds a session. Waits for it without the interpreter's lock, which its holder may need.
class Held {
 public:
  explicit Held(const Session& s) : lock_(s.mutex(), std::defer_lock) {
    check_not_forked();  // the lock may have come along, its holder did not
    if (lock_.try_lock()) return;
    py::gil_scoped_release unlocked;
    lock_.lock();
  }

 private:
  std::unique_lock<std::recursive_mutex> lock_;
};

// Lets Python's handlers of signals run; what they raise ends the call.
inline void check_signals() {
  py::gil_scoped_acquire locked;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// The same between the batches of a call, not more often than the interpreter's lock is cheap.
inline Session::Between signals_between() {
  using Clock = std::chrono::steady_clock;
  return [last = Clock::now()]() mutable {
    if (Clock::now() - last < std::chrono::milliseconds(50)) return;
    check_signals();
    last = Clock::now();
  };
}

}  // namespace thalweg::bindings
