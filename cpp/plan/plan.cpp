#include "plan.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "../comm/same.h"
#include "../formula/clip.h"

namespace thalweg {

void Sums::operator+=(const Sums& s) {
  loss += s.loss;
  count += s.count;
  metrics.resize(s.metrics.size());
  for (size_t i = 0; i < metrics.size(); i++) metrics[i] += s.metrics[i];
}

BuildSpec Plan::spec(const Recorded& r, const Layout& layout, DType dtype, const BatchCut& cut, int64_t bucket_bytes) {
  BuildSpec s;
  s.number = number_of(dtype, false);
  s.cut = cut;
  s.bucket_bytes = bucket_bytes;
  s.external = r.inputs;
  s.outputs = r.outputs;
  if (r.loss_sum != kNone) s.outputs.push_back(r.loss_sum);
  s.outputs.insert(s.outputs.end(), r.metric_sums.begin(), r.metric_sums.end());
  for (auto& [buffer, value] : r.graph.buffer_updates()) s.outputs.push_back(value);
  for (auto& p : layout.parameters) s.parameters[r.graph.find(Role::parameter, p.name)] = p.offset;
  for (auto& b : layout.buffers) s.buffers[r.graph.find(Role::buffer, b.name)] = b.offset;
  for (auto& [parameter, gradient] : r.gradients) s.gradients.push_back({gradient, s.parameters.at(parameter)});
  return s;
}

Plan::Plan(const Recorded& recorded, const Layout& layout, Replica& replica, DType dtype, const BatchCut& cut,
           int64_t bucket_bytes)
    : recorded_(recorded),
      layout_(layout),
      replica_(replica),
      dtype_(dtype),
      program_(recorded.graph, spec(recorded, layout, dtype, cut, bucket_bytes)),
      backward_(program_.forward_end(recorded.forward_nodes)) {
  for (Value v : recorded_.inputs) {
    input_at_.push_back(input_bytes_);
    input_bytes_ += program_.external_bytes(v);
  }
  for (auto& p : layout_.parameters)
    if (p.trainable) clipped_.push_back({p.offset, p.offset + p.shape.size(), p.group});
}

// One training step of this rank. Between its micro-batches (first .. last) gradients and counts add up in `carried`.
StepReport Plan::step(const Batch& batch, const StepSettings& settings, Sums& carried) {
  const auto start = std::chrono::steady_clock::now();
  const double waited = replica_.comm->seconds_waiting();
  const int64_t sent = replica_.comm->bytes_sent();
  StepReport report;
  bind();
  exchange_stripes(shares_update(settings));
  seconds_shared_ = seconds_noted_ = 0;
  load(batch);                       // rows of this rank -> its inputs
  run(0, backward_, settings.info);  // activations; the loss, where no gradient goes before its sum
  if (replica_.comm->rank() == settings.delayed_rank)
    std::this_thread::sleep_for(std::chrono::duration<double>(settings.seconds_delay));
  run(backward_, program_.instructions(), settings.info);  // gradients; the exchange of each bucket goes on beside
  accumulate(settings, sums(), carried);
  if (settings.last) {
    report.grad_norm = gradient_norm(carried.count);  // of the mean gradient, the same on every rank
    const bool finite = std::isfinite(report.grad_norm) && std::isfinite(carried.loss);
    if (finite) {
      update(settings, carried.count, report.grad_norm);  // clip, optimizer: w, g, state -> w, state
      commit_buffers();                                   // running statistics
    } else {
      report.skipped = true;
      if (!settings.skip_nonfinite) find_bad(report, settings.info);
    }
  }
  report.sums = carried;
  report.seconds_comm = program_.seconds_comm() + seconds_shared_ - seconds_noted_;
  report.bytes_comm = replica_.comm->bytes_sent() - sent;
  report.seconds_wait = replica_.comm->seconds_waiting() - waited;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

void Plan::bind() {
  const bool grows =
      program_.activation_bytes() > replica_.activations.bytes() || input_bytes_ > replica_.inputs.bytes();
  if (grows) {
    replica_.version++;  // first: if one can't be had, the other may have moved all the same
    program_.growing([&] { replica_.activations.grow(program_.activation_bytes()); });
    replica_.inputs.grow(input_bytes_);
  }
  if (bound_ == replica_.version) return;
  program_.bind(
      {replica_.activations.data(), replica_.parameters.data(), replica_.gradients.data(), replica_.buffers.data()});
  bound_ = replica_.version;
}

// Inputs in order are read where they stand; shuffled ones are gathered.
void Plan::load(const Batch& batch) {
  const Exec exec = replica_.exec();
  const BatchCut& cut = program_.spec().cut;
  const int64_t first = batch.first + cut.first_row[cut.rank], rows = cut.rows();
  row0_ = batch.position + cut.first_row[cut.rank];
  for (size_t i = 0; i < recorded_.inputs.size(); i++) {
    const Value v = recorded_.inputs[i];
    if (program_.external_bytes(v) == 0) continue;
    const Type& t = program_.type(v);
    const int64_t row_bytes = t.shape.product(1, t.shape.rank()) * element_bytes(program_.spec().number, t.kind);
    if (!batch.order) {
      program_.bind_external(v, {const_cast<std::byte*>(batch.data[i]) + first * row_bytes, 0});
      continue;
    }
    std::byte* to = replica_.inputs.data() + input_at_[i];
    exec.parallel(rows, double(rows * row_bytes) * 0.1, [&](int64_t r, int) {
      std::memcpy(to + r * row_bytes, batch.data[i] + batch.order[first + r] * row_bytes, row_bytes);
    });
    program_.bind_external(v, {to, 0});
  }
  program_.resolve();
}

void Plan::run(int begin, int end, const StepInfo& info) {
  replica_.comm->at(int64_t(info.step), program_.spec().cut.rows_global);
  program_.run(begin, end, replica_.exec(), *replica_.comm, {info.seed, info.step, row0_});
}

double Plan::read(Value v) const {
  const std::byte* at = program_.at(v).data;
  return dtype_ == DType::f32 ? double(*reinterpret_cast<const float*>(at)) : *reinterpret_cast<const double*>(at);
}

Sums Plan::sums() const {
  Sums s;
  s.loss = read(recorded_.loss_sum);
  s.count = double(program_.spec().cut.rows_global * recorded_.loss_per_row);
  for (Value v : recorded_.metric_sums) s.metrics.push_back(read(v));
  return s;
}

void Plan::accumulate(const StepSettings& settings, const Sums& fresh, Sums& carried) {
  const bool one = settings.first && settings.last;
  if (settings.first) carried = {};
  carried += fresh;
  if (one) return;
  const int64_t n = layout_.parameter_elements, bytes = n * bytes_of(dtype_);
  Arena& total = replica_.accumulated;
  if (total.bytes() < bytes) total = Arena(bytes);
  if (settings.first) std::memcpy(total.data(), replica_.gradients.data(), bytes);
  else kernels().add(replica_.exec(), dtype_, total.data(), replica_.gradients.data(), n);
  if (settings.last) std::memcpy(replica_.gradients.data(), total.data(), bytes);
}

double Plan::gradient_norm(double count) {
  const double squares =
      program_.stripes().length
          ? squares_of_stripes()
          : kernels().sum_of_squares(replica_.exec(), dtype_, replica_.gradients.data(), layout_.parameter_elements);
  return std::sqrt(squares) / count;
}

void Plan::update(const StepSettings& settings, double count, double norm) {
  Update u = settings.update;
  u.grad_scale = clip_scale(norm, settings.max_norm) / count;
  std::span<const Segment> segments = settings.segments;
  if (settings.max_layer_norm > 0) {
    for (Segment& s : clipped_) {
      const std::byte* g = replica_.gradients.data() + s.begin * bytes_of(dtype_);
      const double squares = kernels().sum_of_squares(replica_.exec(), dtype_, g, s.end - s.begin);
      s.scale = clip_scale(std::sqrt(squares) * u.grad_scale, settings.max_layer_norm);
    }
    segments = clipped_;
  }
  if (program_.stripes().length > 0) return update_stripes(u, settings.rates);
  kernels().update(replica_.exec(), dtype_, u, settings.rates, segments, replica_.parameters.data(),
                   replica_.gradients.data(), replica_.state.own(), layout_.parameter_elements);
}

void Plan::commit_buffers() {
  const int64_t element = bytes_of(dtype_);
  for (auto& [buffer, value] : recorded_.graph.buffer_updates())  // the program need not read the buffer
    std::memcpy(replica_.buffers.data() + program_.spec().buffers.at(buffer) * element, program_.at(value).data,
                program_.type(buffer).shape.size() * element);
}

// The first instruction, over all ranks, whose output is not finite: every rank reports the same.
void Plan::find_bad(StepReport& report, const StepInfo& info) {
  Communicator& comm = *replica_.comm;
  std::vector<int32_t> found(size_t(comm.size()));
  const int32_t here = find_bad_here(report.bad, info);
  comm.all_gather(reinterpret_cast<const std::byte*>(&here), 1, sizeof here,
                  reinterpret_cast<std::byte*>(found.data()));
  for (int r = 0; r < comm.size(); r++)
    if (found[size_t(r)] >= 0 && (report.bad_rank < 0 || found[size_t(r)] < found[size_t(report.bad_rank)]))
      report.bad_rank = r;
  if (report.bad_rank >= 0) report.bad = gather_texts(comm, report.bad)[size_t(report.bad_rank)];
}

// The step is run once more, every output looked at; parameters and buffers have not changed yet. Returns -1 for
// nothing, 0 for the parameters, else the number of the instruction.
int Plan::find_bad_here(std::string& what, const StepInfo& info) {
  const Exec exec = replica_.exec();
  for (auto& p : layout_.parameters) {
    const std::byte* at = replica_.parameters.data() + p.offset * bytes_of(dtype_);
    const int64_t bad = kernels().first_non_finite(exec, dtype_, Kind::real, at, p.shape.size());
    if (bad < 0) continue;
    what = text("parameter '", p.name, "' is not finite at element ", bad);
    return 0;
  }
  exchange_stripes(false);
  const int found = program_.inspect(exec, *replica_.comm, {info.seed, info.step, row0_}, what);
  return found >= 0 ? found + 1 : -1;
}

Sums Plan::gradients(const Batch& batch, const StepInfo& info) {
  bind();
  exchange_stripes(false);
  load(batch);
  run(0, program_.instructions(), info);
  return sums();
}

Sums Plan::evaluate(const Batch& batch, const StepInfo& info) { return gradients(batch, info); }

void Plan::profile(const Batch& batch, const StepInfo& info, std::vector<double>& seconds) {
  bind();
  exchange_stripes(false);
  load(batch);
  seconds.resize(size_t(program_.instructions()));
  program_.profile(replica_.exec(), *replica_.comm, {info.seed, info.step, row0_}, seconds.data());
}

std::vector<InstructionInfo> Plan::describe() const {
  std::vector<InstructionInfo> all;
  for (int k = 0; k < program_.instructions(); k++) all.push_back(program_.describe(k));
  return all;
}

void Plan::predict(const Batch& batch, const StepInfo& info, std::span<std::byte* const> out) {
  bind();
  load(batch);
  run(0, program_.instructions(), info);
  const BatchCut& cut = program_.spec().cut;
  for (size_t i = 0; i < out.size(); i++) {
    const int64_t row_bytes = output_row_bytes(i);
    std::memcpy(out[i] + (batch.first + cut.first_row[cut.rank]) * row_bytes, program_.at(recorded_.outputs[i]).data,
                cut.rows() * row_bytes);
  }
}

int64_t Plan::output_row_bytes(size_t output) const {
  const Type& t = program_.type(recorded_.outputs[output]);
  return t.shape.product(1, t.shape.rank()) * element_bytes(program_.spec().number, t.kind);
}

}  // namespace thalweg
