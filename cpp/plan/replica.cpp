#include "replica.h"

namespace thalweg {
namespace {

constexpr int64_t kElementAlign = kAlign / 4;  // in elements: a cache line of float32

}  // namespace

void Layout::add_parameter(const std::string& name, const Shape& shape, bool trainable, int group) {
  const int64_t begin = parameter_elements, end = begin + shape.size();
  parameters.push_back({name, shape, begin, trainable, group});
  parameter_elements = align_up(end, kElementAlign);
  if (!trainable) return;
  const bool continues = !segments.empty() && segments.back().end == begin && segments.back().group == group;
  if (continues) segments.back().end = end;
  else segments.push_back({begin, end, group});
}

void Layout::add_buffer(const std::string& name, const Shape& shape) {
  buffers.push_back({name, shape, buffer_elements, false, 0});
  buffer_elements = align_up(buffer_elements + shape.size(), kElementAlign);
}

Replica::Replica(const Layout& layout, DType dtype, int states, int threads)
    : pool(make_pool(threads)),
      parameters(layout.parameter_elements * bytes_of(dtype)),
      gradients(layout.parameter_elements * bytes_of(dtype)),
      state(states * layout.parameter_elements * bytes_of(dtype)),
      buffers(layout.buffer_elements * bytes_of(dtype)) {}

}  // namespace thalweg
