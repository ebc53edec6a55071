// exec.h: the CPU executor that kernels run on: a pool, the rule that gives a loop its threads, and scratch memory.
#pragma once
#include <algorithm>

#include "../tensor/buffer.h"
#include "../tensor/type.h"
#include "pool.h"

namespace thalweg {

#define TW_NOINLINE __attribute__((noinline))

struct Exec {
  Pool& pool;
  int only = -1;  // the worker that runs everything by itself, from inside a task; -1: all threads

  Exec alone(int worker) const { return {pool, worker}; }

  // Below this many nanoseconds of estimated work a loop runs on the caller alone: a fork costs 0.5 to 5 us, and what
  // another core has written is far.
  static constexpr double kForkNs = 10e3;
  int threads_for(double work_ns) const { return work_ns < kForkNs || only >= 0 ? 1 : pool.threads(); }

  // f(task, worker) for every task; work_ns is an estimate of the whole loop's cost on one thread.
  template <class F>
  void parallel(int64_t tasks, double work_ns, F&& f) const {
    const int threads = threads_for(work_ns);
    // One copy of the loop's code for both ways of running it.
    auto call = [](void* self, int64_t t, int w)
                    TW_NOINLINE { (*static_cast<std::remove_reference_t<F>*>(self))(t, w); };
    if (threads > 1 && tasks > 1) return pool.run(tasks, call, &f, threads);
    for (int64_t t = 0; t < tasks; t++) call(&f, t, 0);
  }
  template <class T>
  T* scratch(int worker, Slot slot, int64_t count) const {
    const bool shared = slot == Slot::shared || slot == Slot::shared_pack;
    const int owner = only >= 0 ? only : shared ? Pool::kAll : worker;
    return reinterpret_cast<T*>(pool.scratch(owner, slot, count * int64_t(sizeof(T))));
  }
};

// f(N{}) with the C++ type of a number; the one place where the run-time tag becomes a type.
template <class F>
auto with_number(Number n, F&& f) {
  switch (n) {
    case Number::f32: return f(float{});
    case Number::f64: return f(double{});
    case Number::dual32: return f(Dual<float>{});
    default: return f(Dual<double>{});
  }
}

}  // namespace thalweg
