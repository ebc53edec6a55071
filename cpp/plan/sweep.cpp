#include "sweep.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "../formula/random.h"
#include "function.h"

namespace thalweg {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kLook = std::chrono::milliseconds(50);
constexpr double kPulseSeconds = 0.02;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// The means of one epoch, added in the order of the steps as Trainer.fit adds them; skipped steps don't count.
void add_means(const std::vector<StepReport>& reports, size_t metrics, std::vector<double>& to) {
  double loss = 0, count = 0, norm = 0, steps = 0;
  std::vector<double> metric(metrics, 0.0);
  for (const StepReport& r : reports) {
    if (r.skipped) continue;
    const double n = r.sums.count;
    loss += r.sums.loss / n * n;  // of the mean that a step reports
    for (size_t m = 0; m < metrics; m++) metric[m] += r.sums.metrics[m] / n * n;
    count += n;
    norm += r.grad_norm;
    steps += 1;
  }
  if (steps == 0) count = steps = std::numeric_limits<double>::quiet_NaN();
  to.push_back(loss / count);
  for (double m : metric) to.push_back(m / count);
  to.push_back(norm / steps);
}

std::vector<Rates> rates_of_epoch(const SweepRun& run, int64_t first, int64_t steps) {
  const int64_t groups = int64_t(run.rates.size());
  std::vector<Rates> rates;
  rates.reserve(size_t(steps * groups));
  for (int64_t k = 0; k < steps; k++)
    for (int64_t g = 0; g < groups; g++) {
      rates.push_back(run.rates[size_t(g)]);
      if (run.lrs) rates.back().lr = run.lrs[(first + k) * groups + g];
    }
  return rates;
}

void begin(Session& session, const SweepRun& run) {
  session.restart(run.config);
  const Layout& layout = session.layout();
  for (size_t k = 0; k < layout.parameters.size(); k++) {
    const std::byte* own = run.parameters.empty() ? nullptr : run.parameters[k];
    if (own) session.write(Session::Part::parameters, layout.parameters[k], 0, own);
    else session.start(Session::Part::parameters, layout.parameters[k], run.network->parameters[k]);
  }
  for (size_t k = 0; k < layout.buffers.size(); k++)
    session.start(Session::Part::buffers, layout.buffers[k], run.network->buffers[k]);
}

std::vector<std::vector<std::byte>> copies(const Session& session, Session::Part part,
                                           const std::vector<Layout::Entry>& entries) {
  std::vector<std::vector<std::byte>> all;
  for (const Layout::Entry& e : entries) {
    all.emplace_back(size_t(e.shape.size() * bytes_of(session.config().dtype)));
    session.read(part, e, 0, all.back().data());
  }
  return all;
}

}  // namespace

Sweep::Sweep(std::vector<SweepRun> runs, SweepSettings settings)
    : runs_(std::move(runs)), settings_(settings), results_(runs_.size()) {
  if (settings_.threads < 1 || settings_.threads > kMostThreads)
    fail("threads = ", settings_.threads, ", expected 1 to ", kMostThreads);
}

void Sweep::run(const Look& look) {
  check_not_forked();
  if (runs_.empty()) return;
  look_ = &look;
  looked_ = Clock::now();
  const int threads = int(std::min<size_t>(size_t(settings_.threads), runs_.size()));
  busy_ = threads;
  const std::unique_ptr<Pool> pool = make_pool(threads);
  Exec{*pool}.parallel(threads, 1e9, [this](int64_t task, int) { work(int(task)); });
  look_ = nullptr;
  if (error_) std::rethrow_exception(error_);
}

void Sweep::work(int worker) {
  try {
    std::unique_ptr<Session> session;  // gone before others are waited for
    for (size_t i; !stop_ && (i = next_++) < runs_.size(); runs_done_++) attempt(i, session, worker);
  } catch (...) { fail_with(std::current_exception()); }
  {
    const std::lock_guard lock(mutex_);
    busy_--;
  }
  finished_.notify_one();
  if (worker == 0) wait_for_others();
}

void Sweep::fail_with(std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  if (!error_) error_ = std::move(error);
  stop_ = true;
}

// Worker 0 is the caller, who alone may look.
void Sweep::wait_for_others() {
  std::unique_lock lock(mutex_);
  while (!finished_.wait_for(lock, kLook, [this] { return busy_ == 0; })) {
    lock.unlock();
    try {
      pulse(0);
    } catch (const Stopped&) {}
    lock.lock();
  }
}

void Sweep::attempt(size_t i, std::unique_ptr<Session>& session, int worker) {
  const SweepRun& run = runs_[i];
  RunResult& result = results_[i];
  const auto start = Clock::now();
  result.status = RunStatus::interrupted;
  try {
    if (session && &session->model() != run.network->model.get()) session.reset();
    if (!session) session = std::make_unique<Session>(run.network->model, run.config);
    begin(*session, run);
    train(i, *session, worker);
    result.status = RunStatus::finished;
  } catch (const Stopped&) {
  } catch (const NonFinite& e) {
    result.status = RunStatus::diverged;
    result.error = e.what();
  } catch (const std::exception& e) {
    result.status = RunStatus::failed;
    result.error = e.what();
  }
  if (session) result.steps = session->t;
  result.seconds = seconds_since(start);
  if (result.status == RunStatus::failed) return session.reset();
  keep(i, *session);
}

void Sweep::train(size_t i, Session& session, int worker) {
  for (int64_t epoch = 0; epoch < runs_[i].epochs; epoch++) {
    pulse(worker);
    train_epoch(i, session, epoch, worker);
  }
}

void Sweep::train_epoch(size_t i, Session& session, int64_t epoch, int worker) {
  const SweepRun& run = runs_[i];
  const int64_t n = run.network->data.rows, steps = (n + run.batch_size - 1) / run.batch_size;
  std::vector<int64_t> order(run.shuffle ? size_t(n) : 0);
  Batch data = run.network->data;
  if (run.shuffle) {
    kernels().permutation(run.config.seed, stream_key(text("epoch ", epoch)), order.data(), n);
    data.order = order.data();
  }
  const std::vector<Rates> rates = rates_of_epoch(run, epoch * steps, steps);
  std::vector<StepReport> reports;
  int64_t counted = 0;
  session.run_epoch(
      data, run.batch_size, rates, kPulseSeconds,
      [&](int64_t done, const StepReport&) {
        steps_done_ += done - std::exchange(counted, done);
        if (done < steps) pulse(worker);  // an epoch that is done is recorded first
      },
      reports);
  const size_t metrics = session.trained().metric_sums.size();
  std::vector<double> row;
  add_means(reports, metrics, row);
  row.push_back(rates[size_t((steps - 1) * session.groups())].lr);
  if (run.network->validation.rows > 0) {
    const Sums sums = session.evaluate(run.network->validation, run.batch_size, [&] { pulse(worker); });
    row.push_back(sums.loss / sums.count);
    for (double m : sums.metrics) row.push_back(m / sums.count);
  }
  results_[i].history.insert(results_[i].history.end(), row.begin(), row.end());
}

// Where values are equal the earlier run is the best: which thread comes first doesn't matter.
bool Sweep::beats_the_best(size_t i) const {
  if (results_[i].status != RunStatus::finished || results_[i].history.empty()) return false;
  auto value = [&](size_t k) {
    const std::vector<double>& h = results_[k].history;
    const size_t columns = h.size() / size_t(runs_[k].epochs);
    return settings_.sign * h[h.size() - columns + size_t(settings_.column)];
  };
  const double mine = value(i);
  if (mine != mine) return false;
  if (best_ < 0) return true;
  const double best = value(size_t(best_));
  return mine > best || (mine == best && std::ptrdiff_t(i) < best_);
}

void Sweep::keep(size_t i, const Session& session) {
  if (settings_.keep == Keep::none) return;
  const std::lock_guard lock(mutex_);
  if (settings_.keep == Keep::best) {
    if (!beats_the_best(i)) return;
    if (best_ >= 0) results_[size_t(best_)].parameters = results_[size_t(best_)].buffers = {};
    best_ = std::ptrdiff_t(i);
  }
  results_[i].parameters = copies(session, Session::Part::parameters, session.layout().parameters);
  results_[i].buffers = copies(session, Session::Part::buffers, session.layout().buffers);
}

void Sweep::pulse(int worker) {
  if (worker == 0 && !stop_ && Clock::now() - looked_ >= kLook) {
    try {
      (*look_)(runs_done_, steps_done_);
    } catch (...) { fail_with(std::current_exception()); }
    looked_ = Clock::now();
  }
  if (stop_) throw Stopped{};
}

}  // namespace thalweg
