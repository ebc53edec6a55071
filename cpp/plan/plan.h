// plan.h: a training or evaluation step of one rank for one number of rows, compiled, bound to the rank's memory.
#pragma once
#include "program.h"
#include "replica.h"

namespace thalweg {

// Rows of a data set: row i of the batch is row order[first + i], or first + i without an order.
struct Batch {
  std::vector<const std::byte*> data;  // one array for each input, at its first row
  const int64_t* order = nullptr;
  int64_t first = 0, rows = 0;
  int64_t position = 0;  // of row 0 in the global batch: 0 but for later micro-batches
};

// A recorded graph and the values that a step reads and reports.
struct Recorded {
  Graph graph{0};
  std::vector<Value> inputs;
  Value loss_sum = kNone;  // scalar; over loss_per_row elements a row
  int64_t loss_per_row = 1;
  std::vector<Value> metric_sums, outputs;
  std::vector<std::pair<Value, Value>> gradients;  // parameter, its gradient (a sum over the rows)
  int forward_nodes = 0;
};

struct Sums {  // over the rows of a batch, on all ranks
  double loss = 0, count = 0;
  std::vector<double> metrics;
  void operator+=(const Sums& s);
};

struct StepReport {
  Sums sums;
  double grad_norm = 0;
  // seconds_comm: of the exchange between ranks, what no computation hid; part of it is seconds_wait, for ranks that
  // came later. bytes_comm: payload that this rank sent.
  double seconds = 0, seconds_comm = 0, seconds_wait = 0;
  int64_t bytes_comm = 0;
  int waited_for = -1;  // the rank that came last most, and for how long the others of this process waited for it
  double seconds_waited_for = 0;
  bool skipped = false;
  int bad_rank = -1;  // not finite: the rank where the first instruction made it so, and what it is
  std::string bad;
};

struct StepSettings {
  Update update;  // grad_scale is set by the step
  std::span<const Rates> rates;
  std::span<const Segment> segments;
  StepInfo info;
  double max_norm = 0, max_layer_norm = 0;  // 0: off
  bool first = true, last = true;           // of the micro-batches that make one update
  bool skip_nonfinite = false;
  int delayed_rank = -1;  // which sleeps before it goes back, for tests of what the others say of it
  double seconds_delay = 0;
};

class Plan {
 public:
  Plan(const Recorded& recorded, const Layout& layout, Replica& replica, DType dtype, const BatchCut& cut,
       int64_t bucket_bytes);
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() { *self_ = nullptr; }

  StepReport step(const Batch& batch, const StepSettings& settings, Sums& carried);
  Sums evaluate(const Batch& batch, const StepInfo& info);
  // Runs without the loss; writes this rank's rows of each output into the whole array at `out`.
  void predict(const Batch& batch, const StepInfo& info, std::span<std::byte* const> out);
  Sums gradients(const Batch& batch, const StepInfo& info);  // into the replica's gradient arena
  // As gradients(); instruction k took seconds[k], which it makes as long as there are instructions.
  void profile(const Batch& batch, const StepInfo& info, std::vector<double>& seconds);
  std::vector<InstructionInfo> describe() const;
  int64_t output_row_bytes(size_t output) const;

 private:
  static BuildSpec spec(const Recorded&, const Layout&, DType, const BatchCut&, int64_t bucket_bytes);
  void bind();
  void load(const Batch& batch);
  void run(int begin, int end, const StepInfo& info);
  Sums sums() const;
  double read(Value v) const;
  void accumulate(const StepSettings& settings, const Sums& fresh, Sums& carried);
  double gradient_norm(double count);
  bool shares_update(const StepSettings& settings) const;
  void exchange_stripes(bool shares);  // from now on
  void note_summed(int64_t begin, int64_t end);
  void note_squares(int64_t begin, int64_t end);
  double squares_of_stripes();
  void update_stripes(const Update& u, std::span<const Rates> rates);
  void give_parameters(int64_t begin, int64_t end);  // to the other ranks
  void update(const StepSettings& settings, double count, double norm);
  void commit_buffers();
  void find_bad(StepReport& report, const StepInfo& info);
  int find_bad_here(std::string& what, const StepInfo& info);

  const Recorded& recorded_;
  const Layout& layout_;
  Replica& replica_;
  DType dtype_;
  Program program_;
  int backward_;
  std::vector<int64_t> input_at_;  // offsets in the replica's arena of gathered inputs
  int64_t input_bytes_ = 0;
  uint64_t bound_ = ~uint64_t(0);
  int64_t row0_ = 0;              // of this rank in the global batch
  double seconds_shared_ = 0;     // of the exchange that the shared update needs
  double seconds_noted_ = 0;      // spent on squares in the midst of the exchange
  std::vector<double> squares_;   // of the blocks of the gradients; below 0 those that nobody has looked at
  std::vector<Segment> clipped_;  // segments of one parameter each, for clipping per layer
  const std::shared_ptr<Plan*> self_ = std::make_shared<Plan*>(this);  // null once it is gone
};

}  // namespace thalweg
