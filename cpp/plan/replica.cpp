#include "replica.h"

#include <algorithm>
#include <cstring>

#include "../optim/norm.h"
#include "../tensor/out_of_memory.h"

namespace thalweg {
namespace {

constexpr int64_t kLeastShared = 64 << 10;  // elements: below, meetings cost more than the update
constexpr int64_t kStripesOfRank = 32;      // about

constexpr int64_t kElementAlign = kAlign / 4;  // in elements: a cache line of float32

// Where the next entry starts.
int64_t end_of(const std::vector<Layout::Entry>& entries) {
  const Layout::Entry& e = entries.back();
  const int64_t end = align_up(e.offset + e.shape.size(), kElementAlign);
  if (end > kMostElements)
    throw OutOfMemory(text("with '", e.name, "', shape ", e.shape, ", the network has ", end,
                           " elements, more than any memory can hold"));
  return end;
}

Arena arena(const char* part, const std::vector<Layout::Entry>& entries, int64_t bytes) {
  auto what = [&] {
    const auto largest = std::max_element(entries.begin(), entries.end(),
                                          [](auto& a, auto& b) { return a.shape.size() < b.shape.size(); });
    return text("the ", part, " of the network, the largest '", largest->name, "' of shape ", largest->shape);
  };
  return allocating(what, [&] { return Arena(bytes); });
}

Exchanged exchanged(Communicator* peers, const char* part, const std::vector<Layout::Entry>& entries, int64_t bytes) {
  if (auto seen = peers ? peers->take(bytes) : nullptr) return {std::move(seen), bytes};
  return arena(part, entries, bytes);
}

}  // namespace

void Layout::add_parameter(const std::string& name, const Shape& shape, bool trainable, int group) {
  const int64_t begin = parameter_elements, end = begin + shape.size();
  parameters.push_back({name, shape, begin, trainable, group});
  parameter_elements = end_of(parameters);
  if (!trainable) return;
  const bool continues = !segments.empty() && segments.back().end == begin && segments.back().group == group;
  if (continues) segments.back().end = end;
  else segments.push_back({begin, end, group});
}

void Layout::add_buffer(const std::string& name, const Shape& shape) {
  buffers.push_back({name, shape, buffer_elements, false, 0});
  buffer_elements = end_of(buffers);
}

Replica::Replica(const Layout& layout, DType dtype, int states, int threads, Communicator* peers)
    : pool(make_pool(threads)),
      parameters(exchanged(peers, "parameters", layout.parameters, layout.parameter_elements * bytes_of(dtype))),
      gradients(exchanged(peers, "gradients", layout.parameters, layout.parameter_elements * bytes_of(dtype))),
      buffers(arena("buffers", layout.buffers, layout.buffer_elements * bytes_of(dtype))),
      peers_(peers) {
  clear_state(layout, dtype, states);
}

void Replica::clear_state(const Layout& layout, DType dtype, int states) {
  const int64_t bytes = states * layout.parameter_elements * bytes_of(dtype);
  if (state.data() && state.bytes() >= bytes) std::memset(state.data(), 0, size_t(bytes));
  else state.take(exchanged(peers_, "optimizer's state", layout.parameters, bytes));
}

void Replica::share_update(const Layout& layout, DType dtype, int states) {
  const int64_t n = layout.parameter_elements, element = bytes_of(dtype);
  const int rank = comm->rank(), size = comm->size();
  shared = {};
  state.share({}, rank, states, n, element, {});
  if (size == 1 || n < kLeastShared) return;
  std::vector<std::byte*> seen = comm->see(parameters.data(), n * element), states_seen;
  if (states > 0) states_seen = comm->see(state.data(), states * n * element);
  if (seen.empty() || (states > 0 && states_seen.empty())) return;
  shared.stripes.length = align_up(n / (int64_t(size) * kStripesOfRank) + 1, kSquaresBlock);
  shared.parameters = std::move(seen);
  for (const Segment& s : layout.segments)
    shared.stripes.each(rank, size, n, [&](int64_t begin, int64_t end) {
      const int64_t first = std::max(begin, s.begin), last = std::min(end, s.end);
      if (first < last) shared.segments.push_back({first, last, s.group});
    });
  state.share(shared.stripes, rank, states, n, element, std::move(states_seen));
}

void State::share(const Stripes& stripes, int rank, int states, int64_t stride, int64_t element_bytes,
                  std::vector<std::byte*> all) {
  states_ = states;
  stripes_ = stripes;
  rank_ = rank;
  stride_ = stride;
  element_bytes_ = element_bytes;
  all_ = std::move(all);
}

std::byte* State::data() const {
  const int size = int(all_.size());
  for (int r = 0; r < size && !whole_; r++) {
    if (r == rank_) continue;
    stripes_.each(r, size, stride_, [&](int64_t begin, int64_t end) {
      for (int k = 0; k < states_; k++) {
        const int64_t at = (k * stride_ + begin) * element_bytes_;
        std::memcpy(memory_.data() + at, all_[size_t(r)] + at, size_t((end - begin) * element_bytes_));
      }
    });
  }
  whole_ = true;
  return memory_.data();
}

}  // namespace thalweg
