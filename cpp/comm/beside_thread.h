// beside_thread.h: a thread that goes on with what a rank has started, and leaves the core between two looks. It holds
// the mutex under which the rank makes its calls.
#pragma once
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "going.h"

namespace thalweg {

class BesideThread {
 public:
  BesideThread(std::mutex& mutex, Started& started) : mutex_(mutex), started_(started) {}
  ~BesideThread() { stop(); }
  // After something was started, with the mutex held; makes the thread at first.
  void wake() {
    if (!thread_.joinable()) {
      stop_ = false;
      thread_ = std::thread([this] { go_on(); });
    }
    wake_.notify_one();
  }
  void stop() {  // without the mutex
    if (!thread_.joinable()) return;
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

 private:
  static constexpr auto kPause = std::chrono::microseconds(100);
  // Between two looks while nothing is started: a wait without end would take GLIBCXX_3.4.30 (tools/wheel.sh).
  static constexpr auto kLook = std::chrono::seconds(1);

  void go_on() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      if (started_.empty()) {
        wake_.wait_for(lock, kLook, [this] { return stop_ || !started_.empty(); });
        continue;
      }
      started_.progress();
      lock.unlock();
      std::this_thread::sleep_for(kPause);
      lock.lock();
    }
  }

  std::mutex& mutex_;
  Started& started_;
  std::thread thread_;
  std::condition_variable wake_;
  bool stop_ = false;
};

}  // namespace thalweg
