// session.h: a training run of this process: the replicas of its ranks, and plans for every row count met so far.
#pragma once
#include <array>
#include <atomic>
#include <functional>
#include <mutex>

#include "../comm/same.h"
#include "model.h"

namespace thalweg {

inline constexpr int kMostShards = 1024;  // as many as a world may have ranks; more would only cost

struct SessionConfig {
  DType dtype = DType::f32;
  int world = 1, shards = 8,
      threads = 0;  // threads of each rank; 0: the cores of this process, divided among its ranks
  uint64_t seed = 0;
  UpdateRule rule;
  bool has_momentum = false;
  double max_norm = 0, clip_value = 0, max_layer_norm = 0;
  bool skip_nonfinite = false;
  int accumulate = 1;
  int check_every = 0;  // updates between comparisons of the ranks' parameters; 0: never
  int delayed_rank = -1;
  double seconds_delay = 0;  // of StepSettings
  int64_t bucket_bytes = 4 << 20;
  int labels = 1;  // how many of the last inputs predict() does without
};

struct ReplicasDiffer : std::runtime_error {
  using std::runtime_error::runtime_error;
};  // ranks have other values than others; names the tensor and the ranks

// How a parameter or buffer starts.
struct Start {
  std::string distribution;  // of fill_random, or "constant": a everywhere
  double a = 0, b = 0;
  const std::byte* values = nullptr;  // instead of these, if it is not null
};

class Session {
 public:
  // peers: ranks of other processes, of which this session is one; without, all config.world ranks are threads here.
  // named: what must be the same on all of them, by name.
  Session(std::shared_ptr<const Model> model, SessionConfig config, std::shared_ptr<Communicator> peers = nullptr,
          const Named& named = {});
  // Begins another training with the memory and the plans of this one: t is 0, the optimizer's state empty; parameters
  // and buffers are to be written. What memory and plans depend on (dtype, world, shards, threads) stays.
  void restart(const SessionConfig& config);

  StepReport step(const Batch& batch, std::span<const Rates> rates);
  using Progress = std::function<void(int64_t steps, const StepReport& last)>;
  // rates: steps x groups. Calls progress at most every `interval` seconds and after the last step. `reports` are of
  // the steps that were done, also where an exception ends the epoch.
  void run_epoch(const Batch& data, int64_t batch_size, std::span<const Rates> rates, double interval,
                 const Progress& progress, std::vector<StepReport>& reports);
  // Calls `between` after every batch; an exception of it ends the call.
  using Between = std::function<void()>;
  Sums evaluate(const Batch& data, int64_t batch_size, const Between& between);
  void predict(const Batch& data, int64_t batch_size, std::span<std::byte* const> out, const Between& between);
  Sums gradients(const Batch& batch);  // sums over the rows, left in the gradient arenas

  // The instructions of the first rank's part of a training step up to the update, and what each took in each
  // repetition.
  struct Profile {
    std::vector<InstructionInfo> instructions;
    std::vector<std::vector<double>> seconds;
  };
  Profile profile(const Batch& batch, int repeats, const Between& between);

  enum class Part : uint8_t { parameters, gradients, buffers, state };
  // Copies one tensor out of or into every replica. `which`: the arena of state.
  void read(Part part, const Layout::Entry& e, int which, std::byte* to) const;
  void write(Part part, const Layout::Entry& e, int which, const std::byte* from);
  // Lets a parameter or buffer start; random numbers are keyed by the seed and its name.
  void start(Part part, const Layout::Entry& e, const Start& start);

  const Layout& layout() const { return model_->layout; }
  const Model& model() const { return *model_; }
  const SessionConfig& config() const { return config_; }
  const Recorded& trained() const { return model_->train; }
  const Recorded& evaluated() const { return model_->evaluate; }
  const Recorded& predicted() const { return model_->predict; }
  int groups() const { return model_->groups; }
  int states() const { return config_.rule.states(config_.has_momentum); }
  std::atomic<uint64_t> t{0};                     // updates done
  std::string digest();                           // throws ReplicasDiffer
  std::map<std::string, int64_t> memory() const;  // bytes of each part, and how many plans are kept
  // Whoever uses a session holds it. Recursive: a signal's handler that runs at a step's edge may read and write.
  std::recursive_mutex& mutex() const { return mutex_; }

 private:
  enum class Mode : uint8_t { train, evaluate, predict, kCount };
  // The plans of one rank by number of rows: of each mode the last kMostPlans that were used.
  static constexpr size_t kMostPlans = 32;
  struct Kept {
    std::unique_ptr<Plan> plan;
    uint64_t used = 0;
  };
  struct Plans {
    std::array<std::map<int64_t, Kept>, size_t(Mode::kCount)> kept;
    uint64_t uses = 0;
  };
  Plan& plan(int here, Mode mode, int64_t rows);
  // Runs the body for every rank of this process: 0 to here() - 1, which is rank first() + that of the world. One
  // rank's exception ends the others' collectives; it is the one that is rethrown.
  template <class Body>
  void run_ranks(const Body& body) {
    if (config_.world == 1) return body(0);
    if (peers_) run_among_peers(body);
    else run_team(body);
  }
  void run_team(const std::function<void(int)>& body);
  void run_among_peers(const std::function<void(int)>& body);
  int here() const { return peers_ ? 1 : config_.world; }
  int first() const { return peers_ ? peers_->rank() : 0; }
  void connect();
  void share_update();
  struct Digested;
  std::vector<Digested> digests(int here, bool all) const;
  std::string differences(const std::vector<Digested>& tensors, const std::vector<uint64_t>& theirs) const;
  void check_replicas(bool all);
  void sum_waits(std::vector<double>& sums) const;
  void report_waits(StepReport& report);
  void share_rows(const Batch& batch, std::span<std::byte* const> out);
  const StepReport& run_micro(const Batch& micro, const StepSettings& settings);
  void raise_if_bad();

  SessionConfig config_;
  std::shared_ptr<const Model> model_;
  std::shared_ptr<Communicator> peers_;
  std::vector<std::unique_ptr<Replica>> replicas_;
  std::vector<Plans> plans_;
  std::unique_ptr<Pool> team_;                      // one thread for each rank; the caller is rank 0
  std::vector<StepReport> reports_;                 // of each rank here, of the last micro-batch
  std::vector<Sums> carried_;                       // of each rank here, between micro-batches
  std::vector<double> waits_before_, waits_after_;  // of the ranks here, for each rank
  mutable std::recursive_mutex mutex_;
};

struct StepColumns {
  std::span<const double> loss, metrics, count, grad_norm, skipped;  // a number a step; metrics: some
};
// Adds some steps to the totals of an epoch, one after the other, so that it doesn't matter how they were cut: loss and
// metrics by count, count, norm of the gradient, 1. Skipped steps don't count.
void add_steps(std::span<double> totals, const StepColumns&);

}  // namespace thalweg
