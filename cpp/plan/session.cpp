#include "session.h"

#include <algorithm>
#include <chrono>

#include "function.h"
#include "isa.h"

namespace thalweg {

Session::Session(std::shared_ptr<const Model> model, SessionConfig config, std::shared_ptr<Communicator> peers,
                 const Named& named)
    : config_(std::move(config)), model_(std::move(model)), peers_(std::move(peers)) {
  if (peers_) check_same(*peers_, "Trainer", named);
  if (peers_) config_.world = peers_->size();
  if (model_->precision == Precision::bf16 && config_.dtype != DType::f32)
    fail("a model in bf16 has float32 parameters, dtype is ", name_of(config_.dtype));
  if (config_.world < 1) fail("world = ", config_.world, ", expected at least 1");
  if (config_.shards < 1 || config_.shards > kMostShards)
    fail("shards = ", config_.shards, ", expected 1 to ", kMostShards, ": only as many ranks could share them");
  if (config_.accumulate < 1) fail("accumulate = ", config_.accumulate, ", expected at least 1");
  if (config_.threads < 0 || config_.threads > kMostThreads)
    fail("threads = ", config_.threads, ", expected 0 (automatic) to ", kMostThreads);
  if (config_.threads == 0) config_.threads = std::max(1, usable_cores() / here());
  for (int r = 0; r < here(); r++)
    replicas_.push_back(std::make_unique<Replica>(layout(), config_.dtype, states(), config_.threads, peers_.get()));
  plans_.resize(size_t(here()));
  carried_.resize(size_t(here()));
  reports_.resize(size_t(here()));
  waits_before_.resize(size_t(config_.world));
  waits_after_.resize(size_t(config_.world));
  if (here() > 1) team_ = make_pool(here());
  connect();
  share_update();
}

// Clipping by layer and sums of micro-batches need all gradients on every rank.
void Session::share_update() {
  if (config_.world == 1 || config_.accumulate > 1 || config_.max_layer_norm > 0) return;
  run_ranks([&](int rank) { replicas_[size_t(rank)]->share_update(layout(), config_.dtype, states()); });
}

void Session::restart(const SessionConfig& config) {
  config_.seed = config.seed;
  config_.rule = config.rule;
  config_.has_momentum = config.has_momentum;
  config_.max_norm = config.max_norm;
  config_.clip_value = config.clip_value;
  config_.max_layer_norm = config.max_layer_norm;
  config_.skip_nonfinite = config.skip_nonfinite;
  config_.accumulate = config.accumulate;
  for (auto& r : replicas_) {
    r->shared = {};
    r->clear_state(layout(), config_.dtype, states());
  }
  share_update();
  t = 0;
}

void Session::connect() {
  if (here() == 1) {
    replicas_[0]->comm = peers_ ? peers_ : make_self();
    return;
  }
  auto comms = make_threads(config_.world);
  for (int r = 0; r < config_.world; r++) replicas_[r]->comm = std::move(comms[r]);
}

void Session::run_team(const std::function<void(int)>& body) {
  std::vector<std::exception_ptr> errors(config_.world);
  auto task = [&](int64_t rank, int) {
    try {
      body(int(rank));
    } catch (const Lost&) { errors[rank] = std::current_exception(); } catch (const std::exception& e) {
      errors[rank] = std::current_exception();
      replicas_[rank]->comm->abort(text("rank ", rank, " failed: ", e.what()));
    }
  };
  Exec{*team_}.parallel(config_.world, 1e9, task);
  std::exception_ptr first;
  for (auto& e : errors) {
    if (!e) continue;
    try {
      std::rethrow_exception(e);
    } catch (const Lost&) {
      if (!first) first = e;
    } catch (...) {
      first = e;
      break;
    }
  }
  if (!first) return;
  connect();  // the old group stays aborted; the next call starts with a whole one
  std::rethrow_exception(first);
}

// Ranks of other processes can't start anew: after one's exception all are lost.
void Session::run_among_peers(const std::function<void(int)>& body) {
  try {
    body(0);
    peers_->at(-1, -1);
  } catch (const Lost&) { throw; } catch (const std::exception& e) {
    peers_->abort(text("rank ", first(), " failed: ", e.what()));
    throw;
  }
}

Plan& Session::plan(int here, Mode mode, int64_t rows) {
  Plans& plans = plans_[size_t(here)];
  std::map<int64_t, Kept>& kept = plans.kept[size_t(mode)];
  auto found = kept.find(rows);
  if (found == kept.end()) {
    if (kept.size() == kMostPlans)
      kept.erase(
          std::min_element(kept.begin(), kept.end(), [](auto& a, auto& b) { return a.second.used < b.second.used; }));
    const Recorded& r = mode == Mode::train ? trained() : mode == Mode::evaluate ? evaluated() : predicted();
    const BatchCut cut = BatchCut::of(rows, config_.shards, first() + here, config_.world);
    auto made = std::make_unique<Plan>(r, layout(), *replicas_[size_t(here)], config_.dtype, cut, config_.bucket_bytes);
    found = kept.emplace(rows, Kept{std::move(made)}).first;
  }
  found->second.used = ++plans.uses;
  return *found->second.plan;
}

const StepReport& Session::run_micro(const Batch& micro, const StepSettings& settings) {
  run_ranks([&](int rank) {
    reports_[size_t(rank)] = plan(rank, Mode::train, micro.rows).step(micro, settings, carried_[size_t(rank)]);
  });
  raise_if_bad();
  return reports_[0];
}

void Session::raise_if_bad() {
  if (!reports_[0].skipped || config_.skip_nonfinite) return;
  const std::string head = text("the training diverged at update ", t + 1, ": ");
  if (const StepReport& report = reports_[0]; report.bad_rank >= 0)
    throw NonFinite(text(head, report.bad, config_.world > 1 ? text(" (rank ", report.bad_rank, ")") : std::string(),
                         "; parameters are those of the update before. Lower the learning rate, or set max_norm"));
  throw NonFinite(text(head, "the gradient norm is ", reports_[0].grad_norm, " and the loss ",
                       reports_[0].sums.loss / reports_[0].sums.count));
}

StepReport Session::step(const Batch& batch, std::span<const Rates> rates) {
  check_not_forked();
  if (batch.rows < 1) fail("a batch needs at least one row");
  if (config_.check_every && t % uint64_t(config_.check_every) == 0) check_replicas(false);
  sum_waits(waits_before_);
  StepSettings s;
  s.update = {config_.rule, config_.has_momentum, t + 1, 1, config_.clip_value};
  s.rates = rates;
  s.segments = layout().segments;
  s.info = {config_.seed, t, 0};
  s.max_norm = config_.max_norm;
  s.max_layer_norm = config_.max_layer_norm;
  s.skip_nonfinite = config_.skip_nonfinite;
  s.delayed_rank = config_.delayed_rank;
  s.seconds_delay = config_.seconds_delay;
  const int64_t pieces = std::min<int64_t>(config_.accumulate, batch.rows);
  StepReport report, total;
  for (int64_t k = 0; k < pieces; k++) {
    Batch micro = batch;
    micro.position = share(batch.rows, int(k), int(pieces));
    micro.first = batch.first + micro.position;
    micro.rows = share(batch.rows, int(k) + 1, int(pieces)) - micro.position;
    s.first = k == 0;
    s.last = k == pieces - 1;
    report = run_micro(micro, s);
    total.seconds += report.seconds;
    total.seconds_comm += report.seconds_comm;
    total.seconds_wait += report.seconds_wait;
    total.bytes_comm += report.bytes_comm;
  }
  report.seconds = total.seconds;
  report.seconds_comm = total.seconds_comm;
  report.seconds_wait = total.seconds_wait;
  report.bytes_comm = total.bytes_comm;
  report_waits(report);
  t++;
  return report;
}

void Session::sum_waits(std::vector<double>& sums) const {
  std::fill(sums.begin(), sums.end(), 0.0);
  for (auto& r : replicas_) {
    const std::span<const double> waited = r->comm->waited_for();
    for (size_t i = 0; i < waited.size(); i++) sums[i] += waited[i];
  }
}

// For whom the ranks here waited in this step: seconds are the mean over those that did not hold the others up.
void Session::report_waits(StepReport& report) {
  if (config_.world == 1) return;
  sum_waits(waits_after_);
  for (size_t r = 0; r < waits_after_.size(); r++) {
    const double seconds = (waits_after_[r] - waits_before_[r]) / (peers_ ? 1 : config_.world - 1);
    if (seconds <= report.seconds_waited_for) continue;
    report.waited_for = int(r);
    report.seconds_waited_for = seconds;
  }
}

void Session::run_epoch(const Batch& data, int64_t batch_size, std::span<const Rates> rates, double interval,
                        const Progress& progress, std::vector<StepReport>& reports) {
  using Clock = std::chrono::steady_clock;
  reports.reserve(size_t((data.rows + batch_size - 1) / batch_size));
  auto last = Clock::now();
  Batch batch = data;
  for (int64_t at = 0, k = 0; at < data.rows; at += batch_size, k++) {
    batch.first = data.first + at;
    batch.rows = std::min(batch_size, data.rows - at);
    reports.push_back(step(batch, rates.subspan(k * groups(), groups())));
    const bool due = std::chrono::duration<double>(Clock::now() - last).count() >= interval;
    if (!progress || !(due || at + batch_size >= data.rows)) continue;
    progress(k + 1, reports.back());
    last = Clock::now();
  }
}

Sums Session::evaluate(const Batch& data, int64_t batch_size, const Between& between) {
  check_not_forked();
  Sums all;
  for (int64_t at = 0; at < data.rows; at += batch_size) {
    Batch batch = data;
    batch.first = data.first + at;
    batch.rows = std::min(batch_size, data.rows - at);
    std::vector<Sums> sums(replicas_.size());
    run_ranks(
        [&](int r) { sums[size_t(r)] = plan(r, Mode::evaluate, batch.rows).evaluate(batch, {config_.seed, t, 0}); });
    all += sums[0];
    between();
  }
  return all;
}

void Session::predict(const Batch& data, int64_t batch_size, std::span<std::byte* const> out, const Between& between) {
  check_not_forked();
  for (int64_t at = 0; at < data.rows; at += batch_size) {
    Batch batch = data;
    batch.first = data.first + at;
    batch.rows = std::min(batch_size, data.rows - at);
    run_ranks([&](int r) { plan(r, Mode::predict, batch.rows).predict(batch, {config_.seed, t, 0}, out); });
    if (peers_) share_rows(batch, out);
    between();
  }
}

// Every rank of another process has written its own rows of the outputs.
void Session::share_rows(const Batch& batch, std::span<std::byte* const> out) {
  run_ranks([&](int) {
    for (size_t i = 0; i < out.size(); i++)
      for (int r = 0; r < config_.world; r++) {
        const BatchCut cut = BatchCut::of(batch.rows, config_.shards, r, config_.world);
        const int64_t row_bytes = plan(0, Mode::predict, batch.rows).output_row_bytes(i);
        peers_->broadcast(out[i] + (batch.first + cut.first_row[size_t(r)]) * row_bytes, cut.rows() * row_bytes, 1, r);
      }
  });
}

Sums Session::gradients(const Batch& batch) {
  check_not_forked();
  std::vector<Sums> sums(replicas_.size());
  run_ranks([&](int r) { sums[size_t(r)] = plan(r, Mode::train, batch.rows).gradients(batch, {config_.seed, t, 0}); });
  return sums[0];
}

Session::Profile Session::profile(const Batch& batch, int repeats, const Between& between) {
  check_not_forked();
  Profile p;
  p.seconds.resize(size_t(repeats));
  for (std::vector<double>& seconds : p.seconds) {
    run_ranks([&](int r) {
      std::vector<double> other;
      plan(r, Mode::train, batch.rows).profile(batch, {config_.seed, t, 0}, r == 0 ? seconds : other);
    });
    between();
  }
  p.instructions = plan(0, Mode::train, batch.rows).describe();
  return p;
}

void add_steps(std::span<double> totals, const StepColumns& c) {
  const size_t steps = c.loss.size(), metrics = steps ? c.metrics.size() / steps : 0;
  if (c.count.size() != steps || c.grad_norm.size() != steps || c.skipped.size() != steps ||
      c.metrics.size() != metrics * steps)
    fail("the columns of ", steps, " steps have other lengths: ", c.metrics.size(), ", ", c.count.size(), ", ",
         c.grad_norm.size(), ", ", c.skipped.size());
  if (steps > 0 && totals.size() != metrics + 4)
    fail("there are ", totals.size(), " totals, expected loss, ", metrics, " metrics, count, grad_norm and steps");
  for (size_t i = 0; i < steps; i++) {
    if (c.skipped[i] != 0) continue;
    totals[0] += c.loss[i] * c.count[i];
    for (size_t k = 0; k < metrics; k++) totals[1 + k] += c.metrics[i * metrics + k] * c.count[i];
    totals[metrics + 1] += c.count[i], totals[metrics + 2] += c.grad_norm[i], totals[metrics + 3] += 1;
  }
}

}  // namespace thalweg
