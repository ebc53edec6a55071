#include "function.h"

#include <pthread.h>

#include <algorithm>
#include <cstring>

#include "isa.h"

namespace thalweg {
namespace {

// Set in every child that a fork makes: a look at it costs nothing, unlike getpid().
bool forked = [] {
  pthread_atfork(nullptr, nullptr, [] { forked = true; });
  return false;
}();

bool contains(const std::vector<Value>& list, Value v) { return std::find(list.begin(), list.end(), v) != list.end(); }

}  // namespace

void check_not_forked() {
  if (forked)
    throw std::runtime_error(
        "this process was forked after thalweg was imported, and its compute threads did not survive; import thalweg "
        "in the child, or start processes with the 'spawn' method");
}

Pool& shared_pool(int threads) {
  static std::map<int, std::unique_ptr<Pool>> pools;
  if (threads > kMostThreads) fail("threads = ", threads, ", expected 0 (automatic) to ", kMostThreads);
  if (threads <= 0) threads = usable_cores();
  auto& pool = pools[threads];
  if (!pool) pool = make_pool(threads);
  return *pool;
}

std::mutex& shared_pool_mutex() {
  static std::mutex mutex;
  return mutex;
}

BuildSpec Function::spec() const {
  BuildSpec s;
  s.number = number_of(dtype_, tangents_);
  s.cut = BatchCut::of(graph_->rows(), 1, 0, 1);
  s.outputs = outputs_;
  s.external = inputs_;
  for (size_t i = 0; i < outputs_.size(); i++)
    if (!copied_out_[i]) s.external.push_back(outputs_[i]);
  return s;
}

Function::Function(std::shared_ptr<const Graph> graph, std::vector<Value> inputs, std::vector<Value> outputs,
                   DType dtype, bool tangents, int threads)
    : graph_(std::move(graph)),
      inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      dtype_(dtype),
      tangents_(tangents),
      threads_(threads),
      copied_out_([&] {
        std::vector<char> copied;
        for (size_t i = 0; i < outputs_.size(); i++) {
          const std::vector<Value> before(outputs_.begin(), outputs_.begin() + i);
          copied.push_back(graph_->info(outputs_[i]).node < 0 || contains(before, outputs_[i]));
        }
        return copied;
      }()),
      program_(*graph_, spec()),
      activations_(program_.growing([&] { return Arena(program_.activation_bytes()); })),
      self_(make_self()) {
  Memory memory;
  memory.activations = activations_.data();
  program_.bind(memory);
  if (!tangents_) return;
  int64_t bytes = 0;
  for (auto* list : {&inputs_, &outputs_})
    for (Value v : *list) {
      plane_at_.push_back(bytes);
      bytes += align_up(std::max<int64_t>(program_.external_bytes(v), 1));
    }
  planes_ = Arena(bytes);
}

void Function::load(const Arrays& a) {
  for (size_t i = 0; i < inputs_.size(); i++) {
    const Value v = inputs_[i];
    if (program_.external_bytes(v) == 0) continue;  // no output needs it
    auto* value = const_cast<std::byte*>(a.in[i]);  // instructions never write to an external input
    if (!tangents_) {
      program_.bind_external(v, {value, 0});
      continue;
    }
    std::byte* to = planes_.data() + plane_at_[i];
    const Type& t = program_.type(v);
    const int64_t element = element_bytes(number_of(dtype_, false), t.kind), bytes = t.shape.size() * element;
    std::memcpy(to, value, bytes);
    if (t.kind == Kind::real) {
      std::byte* tangent = to + program_.plane(v) * element;
      if (a.in_tangent[i]) std::memcpy(tangent, a.in_tangent[i], bytes);
      else std::memset(tangent, 0, bytes);
    }
    program_.bind_external(v, {to, program_.plane(v)});
  }
  for (size_t i = 0; i < outputs_.size(); i++)
    if (!copied_out_[i])
      program_.bind_external(outputs_[i], {tangents_ ? planes_.data() + plane_at_[inputs_.size() + i] : a.out[i], 0});
}

void Function::store(const Arrays& a) {
  for (size_t i = 0; i < outputs_.size(); i++) {
    if (!tangents_ && !copied_out_[i]) continue;
    const Value v = outputs_[i];
    const Type& t = program_.type(v);
    const int64_t element = element_bytes(number_of(dtype_, false), t.kind), bytes = t.shape.size() * element;
    const std::byte* from = program_.at(v).data;
    std::memcpy(a.out[i], from, bytes);
    if (tangents_ && t.kind == Kind::real) std::memcpy(a.out_tangent[i], from + program_.plane(v) * element, bytes);
  }
}

void Function::run(const Arrays& arrays, uint64_t seed, uint64_t step) {
  check_not_forked();
  std::scoped_lock lock(mutex_, shared_pool_mutex());
  load(arrays);
  program_.resolve();
  const Exec exec{shared_pool(threads_)};
  program_.run(0, program_.instructions(), exec, *self_, {seed, step, 0});
  store(arrays);
}

}  // namespace thalweg
