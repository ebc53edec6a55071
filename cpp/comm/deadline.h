// deadline.h: ends this process should a call last too long that nothing can interrupt, such as MPI_Init, which holds
// the interpreter's lock while it waits for the other ranks.
#pragma once
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace thalweg {

class Deadline {
 public:
  // After so many seconds in which the process ran, `why` is written to stderr, and the process ends with this code.
  Deadline(double seconds, std::string why, int exit_code);
  ~Deadline() { meet(); }
  void meet();  // it ends nothing from here on

 private:
  void watch(double seconds, const std::string& why, int exit_code);

  std::mutex mutex_;
  std::condition_variable wake_;
  bool met_ = false;
  std::thread thread_;
};

}  // namespace thalweg
