#include "pool.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "../tensor/arena.h"
#include "../tensor/error.h"
#include "apart.h"

namespace thalweg {
namespace {

constexpr int kSpins = 4000;  // about 20 us: longer than the gap between two loops of a step, shorter than a time slice

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits until `flag` differs from `old`: spins briefly, then sleeps.
template <class T>
void wait_while(const std::atomic<T>& flag, T old) {
  for (int i = 0; i < kSpins; i++) {
    if (flag.load(std::memory_order_acquire) != old) return;
    relax();
  }
  while (flag.load(std::memory_order_acquire) == old) flag.wait(old, std::memory_order_acquire);
}

struct Job {
  Pool::Task task;
  void* self;
  int64_t tasks;
  int threads;
};

class ThreadPool final : public Pool {
 public:
  explicit ThreadPool(int threads) : scratch_(size_t(threads) + 1), apart_(threads) {
    try {
      for (int w = 1; w < threads; w++) workers_.emplace_back([this, w] { serve(w); });
    } catch (const std::exception& e) {
      const size_t started = workers_.size();
      stop();
      throw std::runtime_error(
          text("of ", threads - 1, " threads the system let only ", started, " start: ", e.what()));
    }
  }
  ~ThreadPool() override { stop(); }
  int threads() const override { return int(workers_.size()) + 1; }

  void run(int64_t tasks, Task task, void* self, int threads) override {
    threads = int(std::min<int64_t>(std::min(threads, this->threads()), tasks));
    job_ = {task, self, tasks, threads};
    if (threads <= 1) {
      work(0);
    } else {
      apart_.enter(0);
      pending_.store(int(workers_.size()), std::memory_order_relaxed);
      publish();
      work(0);
      for (int left; (left = pending_.load(std::memory_order_acquire)) != 0;) wait_while(pending_, left);
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  std::byte* scratch(int owner, Slot slot, int64_t bytes) override {
    Arena& a = scratch_[owner == kAll ? scratch_.size() - 1 : size_t(owner)][size_t(slot)];
    if (bytes > a.bytes()) a.grow(bytes + bytes / 4);
    return a.data();
  }

 private:
  void stop() {
    stop_ = true;
    job_.threads = 0;
    publish();
    for (auto& t : workers_) t.join();
  }
  void publish() {
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
  }
  void serve(int worker) {
    for (uint32_t seen = 0;;) {
      wait_while(generation_, seen);
      seen = generation_.load(std::memory_order_acquire);
      if (stop_) return;
      work(worker);
      if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_one();
    }
  }
  // The worker's contiguous run of tasks.
  void work(int worker) {
    if (worker >= job_.threads) return;
    if (worker > 0) apart_.enter(worker);
    const int64_t begin = job_.tasks * worker / job_.threads, end = job_.tasks * (worker + 1) / job_.threads;
    try {
      for (int64_t t = begin; t < end; t++) job_.task(job_.self, t, worker);
    } catch (...) {
      std::lock_guard lock(error_mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  std::vector<std::array<Arena, size_t(Slot::kCount)>> scratch_;  // one row a worker, the last one shared
  Apart apart_;
  Job job_{};
  std::atomic<uint32_t> generation_{0};
  std::atomic<int> pending_{0};
  std::atomic<bool> stop_{false};
  std::mutex error_mutex_;
  std::exception_ptr error_;
  std::vector<std::thread> workers_;
};

}  // namespace

std::unique_ptr<Pool> make_pool(int threads) { return std::make_unique<ThreadPool>(threads); }

}  // namespace thalweg
