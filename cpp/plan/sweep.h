// sweep.h: many small trainings, each on one thread, dealt to the threads of a pool; each with the bits that it would
// have alone. A thread keeps one session for as long as the network stays the same: from run to run only parameters,
// rates and seed change, so graphs, plans and arenas are made once.
#pragma once
#include <chrono>
#include <condition_variable>

#include "session.h"

namespace thalweg {

// What runs of one network share.
struct SweepNetwork {
  std::shared_ptr<const Model> model;
  std::vector<Start> parameters, buffers;  // in the order of the layout
  Batch data, validation;                  // validation.rows 0: none
};

struct SweepRun {
  const SweepNetwork* network = nullptr;
  SessionConfig config;
  int64_t epochs = 1, batch_size = 1;
  bool shuffle = true;
  std::vector<const std::byte*> parameters;  // where some are the caller's own: an address or null for each
  std::vector<Rates> rates;                  // of each group
  const double* lrs = nullptr;               // steps x groups; null: the lr of `rates` at every step
};

enum class RunStatus : uint8_t { waiting, interrupted, finished, diverged, failed };

struct RunResult {
  RunStatus status = RunStatus::waiting;
  uint64_t steps = 0;  // updates done
  double seconds = 0;
  std::string error;
  // Of each finished epoch: loss, metrics, grad_norm, lr, then loss and metrics of the validation.
  std::vector<double> history;
  std::vector<std::vector<std::byte>> parameters, buffers;  // of the runs that are kept
};

enum class Keep : uint8_t { none, best, all };

struct SweepSettings {
  int threads = 1;
  Keep keep = Keep::none;
  int column = 0;   // of the history: the best run is the finished one with the greatest
  double sign = 1;  // sign x (its last value)
};

class Sweep {
 public:
  Sweep(std::vector<SweepRun> runs, SweepSettings settings);
  // Called on the caller's thread every 50 ms or so. An exception of it ends every run at its step's edge, and the
  // sweep.
  using Look = std::function<void(int64_t runs_done, int64_t steps_done)>;
  void run(const Look& look);
  const std::vector<SweepRun>& runs() const { return runs_; }
  const std::vector<RunResult>& results() const { return results_; }

 private:
  struct Stopped {};
  void work(int worker);
  void attempt(size_t i, std::unique_ptr<Session>& session, int worker);
  void train(size_t i, Session& session, int worker);
  void train_epoch(size_t i, Session& session, int64_t epoch, int worker);
  void keep(size_t i, const Session& session);
  bool beats_the_best(size_t i) const;
  void pulse(int worker);  // throws Stopped where the sweep is to end
  void fail_with(std::exception_ptr error);
  void wait_for_others();

  std::vector<SweepRun> runs_;
  SweepSettings settings_;
  std::vector<RunResult> results_;
  const Look* look_ = nullptr;
  std::chrono::steady_clock::time_point looked_;  // by worker 0, who is the caller
  std::atomic<bool> stop_{false};
  std::atomic<size_t> next_{0};
  std::atomic<int64_t> runs_done_{0}, steps_done_{0};
  std::mutex mutex_;  // of what follows
  std::condition_variable finished_;
  int busy_ = 0;
  std::ptrdiff_t best_ = -1;
  std::exception_ptr error_;  // which ended the sweep
};

}  // namespace thalweg
