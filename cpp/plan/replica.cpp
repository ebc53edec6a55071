#include "replica.h"

#include <algorithm>
#include <cstring>

#include "../tensor/out_of_memory.h"

namespace thalweg {
namespace {

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
      parameters(arena("parameters", layout.parameters, layout.parameter_elements * bytes_of(dtype))),
      gradients(exchanged(peers, "gradients", layout.parameters, layout.parameter_elements * bytes_of(dtype))),
      buffers(arena("buffers", layout.buffers, layout.buffer_elements * bytes_of(dtype))) {
  clear_state(layout, dtype, states);
}

void Replica::clear_state(const Layout& layout, DType dtype, int states) {
  const int64_t bytes = states * layout.parameter_elements * bytes_of(dtype);
  if (state.data() && state.bytes() >= bytes) std::memset(state.data(), 0, size_t(bytes));
  else state = arena("optimizer's state", layout.parameters, bytes);
}

}  // namespace thalweg
