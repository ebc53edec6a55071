// apart.h: the threads of a pool on cores of their own. A system may wake a thread on the core of the one that wakes it
// and leave it there for seconds while another core idles: each then waits for the other, and two threads take longer
// than one. A thread that finds itself on another's core moves to one that none of them uses.
#pragma once
#include <atomic>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace thalweg {

class Apart {
 public:
  explicit Apart(int threads) : core_(size_t(threads)) {
#if defined(__linux__)
    cpu_set_t allowed;
    enough_ = threads > 1 && sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) >= threads;
#endif
  }
  // Thread `me` begins or goes on with work. The first one, which the caller owns, is never moved.
  void enter(int me) {
#if defined(__linux__)
    if (!enough_) return;
    const int here = sched_getcpu();
    core_[size_t(me)].at.store(here, std::memory_order_relaxed);
    for (int other = 0; other < me; other++)
      if (core_[size_t(other)].at.load(std::memory_order_relaxed) == here) return leave(me);
#endif
  }

 private:
  struct alignas(64) Core {
    std::atomic<int> at{-1};
  };
#if defined(__linux__)
  void leave(int me) {
    cpu_set_t allowed, free;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    free = allowed;
    for (const Core& core : core_)
      if (const int at = core.at.load(std::memory_order_relaxed); at >= 0 && at < CPU_SETSIZE) CPU_CLR(at, &free);
    if (CPU_COUNT(&free) == 0 || sched_setaffinity(0, sizeof free, &free) != 0) return;
    sched_setaffinity(0, sizeof allowed, &allowed);  // it is there now, and may go on
    core_[size_t(me)].at.store(sched_getcpu(), std::memory_order_relaxed);
  }
#endif

  std::vector<Core> core_;
  bool enough_ = false;
};

}  // namespace thalweg
