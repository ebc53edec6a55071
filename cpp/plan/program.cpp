#include "program.h"

#include <chrono>
#include <cstring>
#include <utility>

#include "../ops/kernels.h"

namespace thalweg {

BatchCut BatchCut::of(int64_t rows, int shards, int rank, int world) {
  BatchCut c{rows, rank, world, {}, {}};
  auto first_shard = [&](int r) { return int64_t(shards) * r / world; };
  for (int r = 0; r <= world; r++) c.first_row.push_back(first_shard(r) * rows / shards);
  c.shards = Shards::of(rows, shards, first_shard(rank), first_shard(rank + 1));
  // More ranks than shards: a rank without one holds an empty shard, so that every fold has a leaf and writes its sum.
  if (c.shards.count() == 0) c.shards = Shards::whole(0);
  return c;
}

int64_t Program::plane(Value v) const {
  const Type& t = types_[v];
  const int64_t element = element_bytes(spec_.number, t.kind);
  return t.kind == Kind::real && is_dual(spec_.number) ? align_up(t.shape.size() * element) / element : 0;
}

int64_t Program::external_bytes(Value v) const { return block_of_[v] < 0 ? 0 : blocks_[block_of_[v]].bytes; }

void Program::bind(const Memory& m) {
  gradients_ = m.gradients;
  moved_ = true;
  for (Block& b : blocks_) {
    switch (b.home) {
      case Home::activation: b.data = m.activations + b.offset; break;
      case Home::parameter: b.data = m.parameters + b.offset; break;
      case Home::gradient: b.data = m.gradients + b.offset; break;
      case Home::buffer: b.data = m.buffers + b.offset; break;
      case Home::constant: b.data = constants_.data() + b.offset; break;
      case Home::external: break;  // bind_external
    }
  }
}

void Program::bind_external(Value v, Buffer b) {
  if (block_of_[v] < 0 || blocks_[block_of_[v]].data == b.data) return;
  blocks_[block_of_[v]].data = b.data;
  external_moved_ = true;
}

// Every batch lies elsewhere: only what reads it is told.
void Program::resolve() {
  if (std::exchange(moved_, false)) {
    reads_external_.clear();
    for (int k = 0; k < instructions(); k++)
      if (resolve(code_[k])) reads_external_.push_back(k);
  } else if (external_moved_) {
    for (int k : reads_external_) resolve(code_[k]);
  }
  external_moved_ = false;
}

bool Program::resolve(Instruction& i) const {
  const Node* n = i.node >= 0 ? &nodes_[i.node] : nullptr;
  bool external = resolve(i.in_block, n ? &n->in : nullptr, i.in);
  external |= resolve(i.out_block, n ? &n->out : nullptr, i.out);
  for (size_t k = 0; k < i.then.size(); k++) {
    external |= resolve(i.then[k].in_block, &nodes_[i.then[k].node].in, i.followers[k].in);
    external |= resolve(i.then[k].out_block, &nodes_[i.then[k].node].out, i.followers[k].out);
  }
  return external;
}

bool Program::resolve(const std::vector<int>& block, const std::vector<Value>* value, std::vector<Buffer>& to) const {
  bool external = false;
  to.resize(block.size());
  for (size_t k = 0; k < block.size(); k++) {
    to[k] = {block[k] < 0 ? nullptr : blocks_[block[k]].data, value ? plane((*value)[k]) : 0};
    external |= block[k] >= 0 && blocks_[block[k]].home == Home::external;
  }
  return external;
}

std::string Program::what_is(Value v) const {
  const ValueInfo& info = graph_.info(v);
  if (info.node < 0) return text("'", info.name, "', shape ", types_[v].shape);
  const Node& n = nodes_[info.node];
  return text("the output of ", n.op ? n.op->title() : n.name, n.path.empty() ? "" : " in '" + n.path + "'", ", shape ",
              types_[v].shape);
}

std::string Program::out_of_memory() const {
  Value largest = kNone;
  int64_t most = 0;
  for (Value v = 0; v < graph_.values(); v++) {
    const int64_t bytes = graph_.info(v).node < 0 ? 0 : external_bytes(v);
    if (bytes <= most) continue;
    most = bytes;
    largest = v;
  }
  const int64_t rows = spec_.cut.rows_global;
  return text("the activations", rows ? text(" of ", rows, " rows") : "",
              largest == kNone ? "" : ", the largest " + what_is(largest));
}

Buffer Program::at(Value v) const { return {block_of_[v] < 0 ? nullptr : blocks_[block_of_[v]].data, plane(v)}; }

int Program::forward_end(int forward_nodes) const {
  for (int i = 0; i < instructions(); i++)
    if (code_[i].node < 0 || code_[i].node >= forward_nodes) return i;
  return instructions();
}

// Between two kernels the sums that were started go on.
void Program::run(int begin, int end, const Exec& exec, Communicator& comm, const StepInfo& step) {
  if (begin == 0) seconds_comm_ = 0, exchanging_ = false, exchanged_ = 0;
  for (int k = begin; k < end; k++) {
    Instruction& i = code_[k];
    if (i.kind == Instruction::Kind::kernel) {
      i.kernel({exec, i.in.data(), i.out.data(), step, i.followers});
      if (!exchanging_) continue;
    }
    const auto start = std::chrono::steady_clock::now();
    if (i.kind == Instruction::Kind::kernel) exchanging_ = !comm.poll() && !comm.is_finished(exchanged_);
    else collective(i, comm);
    seconds_comm_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
}

Merge Program::sums() const {
  return [t = dtype_of(spec_.number)](std::byte* into, Ranks, const std::byte* from, Ranks, int64_t count) {
    kernels().merge_sums(t, into, from, 0, count);
  };
}

void Program::collective(Instruction& i, Communicator& comm) {
  switch (i.kind) {
    case Instruction::Kind::bucket: return exchange(i, comm);
    case Instruction::Kind::finish: return comm.finish(exchanged_);
    case Instruction::Kind::merge_moments: return merge_moments(i, comm);
    default: break;
  }
  const int64_t element = bytes_of(dtype_of(spec_.number));
  if (i.in[0].data != i.out[0].data) std::memcpy(i.out[0].data, i.in[0].data, size_t(i.elements * element));
  comm.all_reduce(i.out[0].data, i.elements, element, sums());
}

void Program::exchange(const Instruction& i, Communicator& comm) {
  const int64_t element = bytes_of(dtype_of(spec_.number));
  const bool waits = comm.overlap() == Communicator::Overlap::off;
  for (const Range& r : i.ranges) {
    std::byte* at = gradients_ + r.begin * element;
    Ask ask{Operation::all_reduce, at, r.end - r.begin, element};
    if (stripes_.length) ask.stripes = {stripes_.length, r.begin};
    if (summed_)
      ask.summed = [told = summed_, at = r.begin](int64_t begin, int64_t end) { told(at + begin, at + end); };
    exchanged_ = comm.start(ask, sums());
    if (waits) comm.finish(exchanged_);
  }
  exchanging_ = comm.overlap() == Communicator::Overlap::nodes;
}

void Program::merge_moments(Instruction& i, Communicator& comm) {
  const DType t = dtype_of(spec_.number);
  const int64_t bytes = 2 * i.elements * bytes_of(t);
  if (i.in[0].data != i.out[0].data) std::memcpy(i.out[0].data, i.in[0].data, size_t(bytes));
  auto rows = [&](Ranks r) {
    return double(spec_.cut.first_row[r.last] - spec_.cut.first_row[r.first]) * double(i.inner);
  };
  comm.all_reduce(i.out[0].data, 1, bytes, [&](std::byte* into, Ranks a, const std::byte* from, Ranks b, int64_t) {
    kernels().merge_moments(t, into, rows(a), from, rows(b), i.elements);
  });
}

void Program::profile(const Exec& exec, Communicator& comm, const StepInfo& step, double* seconds) {
  using Clock = std::chrono::steady_clock;
  for (int k = 0; k < instructions(); k++) {
    const auto start = Clock::now();
    run(k, k + 1, exec, comm, step);
    seconds[k] = std::chrono::duration<double>(Clock::now() - start).count();
  }
}

InstructionInfo Program::describe(int instruction) const {
  const Instruction& i = code_[instruction];
  const DType dtype = dtype_of(spec_.number);
  if (i.node < 0) {
    int64_t elements = 0;
    for (const Range& r : i.ranges) elements += r.end - r.begin;
    const char* what = i.kind == Instruction::Kind::bucket   ? "all_reduce of gradients"
                       : i.kind == Instruction::Kind::finish ? "end of the all_reduces"
                                                             : "copy of a gradient";
    return {what, "", Shape{elements}, name_of(dtype), {}};
  }
  const Node& n = nodes_[i.node];
  const Type& out = types_[n.out[0]];
  InstructionInfo info{n.name, n.path, out.shape, name_of(dtype, out.kind), cost(n)};
  if (n.attrs.has("activation")) info.op += " + " + n.attrs.text("activation", "");
  for (const Then& t : i.then) {
    const Cost more = cost(nodes_[t.node]);
    info.op += " + " + nodes_[t.node].name;
    const Type& result = types_[nodes_[t.node].out[0]];
    info.shape = result.shape, info.stored = name_of(dtype, result.kind);
    info.cost.flops += more.flops, info.cost.bytes += more.bytes;
  }
  return info;
}

Cost Program::cost(const Node& n) const {
  std::vector<Type> in, out;
  for (Value v : n.in) in.push_back(types_[v]);
  for (Value v : n.out) out.push_back(types_[v]);
  return cost_of(n, {in, out, n.attrs, spec_.number, spec_.cut.shards, spec_.cut.rows_global, 0});
}

std::string Program::bad_output(const Exec& exec, int node, const std::vector<Buffer>& out) const {
  const Node& n = nodes_[node];
  for (size_t o = 0; o < n.out.size(); o++) {
    const Type& t = types_[n.out[o]];
    if (t.kind == Kind::index) continue;
    const int64_t at = kernels().first_non_finite(exec, dtype_of(spec_.number), t.kind, out[o].data, t.shape.size());
    if (at >= 0) return text(what_is(n.out[o]), ", is not finite at element ", at);
  }
  return {};
}

// What follows a node runs when the node's output was looked at: it may take its memory.
int Program::inspect(const Exec& exec, Communicator& comm, const StepInfo& step, std::string& what) {
  int found = -1;
  for (int k = 0; k < instructions(); k++) {
    Instruction& i = code_[k];
    const std::vector<Follower> followers = std::exchange(i.followers, {});
    run(k, k + 1, exec, comm, step);
    i.followers = followers;
    std::string bad = i.node < 0 ? "" : bad_output(exec, i.node, i.out);
    for (size_t f = 0; f < followers.size(); f++) {
      const int64_t size = types_[nodes_[i.then[f].node].out[0]].shape.size();
      followers[f].kernel({exec, followers[f].in.data(), followers[f].out.data(), step}, {0, 0, 1, size});
      if (bad.empty()) bad = bad_output(exec, i.then[f].node, followers[f].out);
    }
    if (found >= 0 || bad.empty()) continue;  // the other ranks go on, so this one does too
    found = k;
    what = bad;
  }
  return found;
}

}  // namespace thalweg
