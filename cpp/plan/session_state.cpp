// session_state.cpp: what a checkpoint reads and writes.
#include <algorithm>
#include <cstring>

#include "../formula/random.h"
#include "session.h"

namespace thalweg {
namespace {

std::byte* address(Replica& r, Session::Part part, int64_t offset, int which, int64_t parameters, int64_t element) {
  switch (part) {
    case Session::Part::parameters: return r.parameters.data() + offset * element;
    case Session::Part::gradients: return r.gradients.data() + offset * element;
    case Session::Part::buffers: return r.buffers.data() + offset * element;
    default: return r.state.data() + (which * parameters + offset) * element;
  }
}

}  // namespace

void Session::read(Part part, const Layout::Entry& e, int which, std::byte* to) const {
  const int64_t element = bytes_of(config_.dtype);
  std::memcpy(to, address(*replicas_[0], part, e.offset, which, layout().parameter_elements, element),
              e.shape.size() * element);
}

void Session::write(Part part, const Layout::Entry& e, int which, const std::byte* from) {
  const int64_t element = bytes_of(config_.dtype);
  for (auto& r : replicas_)
    std::memcpy(address(*r, part, e.offset, which, layout().parameter_elements, element), from,
                e.shape.size() * element);
}

void Session::start(Part part, const Layout::Entry& e, const Start& start) {
  if (start.values) return write(part, e, 0, start.values);
  const int64_t n = e.shape.size(), element = bytes_of(config_.dtype);
  std::byte* first = nullptr;
  for (auto& r : replicas_) {
    std::byte* to = address(*r, part, e.offset, 0, layout().parameter_elements, element);
    if (first) std::memcpy(to, first, size_t(n * element));
    else if (start.distribution == "constant" && config_.dtype == DType::f32)
      std::fill_n(reinterpret_cast<float*>(to), n, float(start.a));
    else if (start.distribution == "constant") std::fill_n(reinterpret_cast<double*>(to), n, start.a);
    else
      kernels().fill_random(r->exec(), config_.dtype, start.distribution, start.a, start.b, config_.seed,
                            stream_key(e.name), to, n);
    first = to;
  }
}

std::map<std::string, int64_t> Session::memory() const {
  std::map<std::string, int64_t> m;
  for (auto& r : replicas_) {
    m["bytes_parameters"] += r->parameters.bytes();
    m["bytes_gradients"] += r->gradients.bytes() + r->accumulated.bytes();
    m["bytes_state"] += r->state.bytes();
    m["bytes_buffers"] += r->buffers.bytes();
    m["bytes_activations"] += r->activations.bytes() + r->inputs.bytes();
  }
  for (auto& p : plans_)
    for (auto& kept : p.kept) m["plans"] += int64_t(kept.size());
  return m;
}

}  // namespace thalweg
