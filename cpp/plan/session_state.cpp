// session_state.cpp: what a checkpoint reads and writes, and the digest that proves two runs equal.
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

// FNV-1a over 8-byte words, two lanes with different offsets: 128 bits that any change of a bit changes.
struct Digest {
  uint64_t a = 1469598103934665603ull, b = 0x9E3779B97F4A7C15ull;
  void add(const std::byte* p, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 8) {
      uint64_t w = 0;
      std::memcpy(&w, p + i, size_t(std::min<int64_t>(8, bytes - i)));
      a = (a ^ w) * 1099511628211ull;
      b = (b ^ (w + uint64_t(i))) * 0xD6E8FEB86659FD93ull;
      b ^= b >> 32;
    }
  }
  std::string hex() const {
    char s[33];
    std::snprintf(s, sizeof s, "%016llx%016llx", static_cast<unsigned long long>(a),
                  static_cast<unsigned long long>(b));
    return s;
  }
};

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

// Of every tensor, by the name that messages have for it.
Named Session::digests(int here) const {
  const int64_t element = bytes_of(config_.dtype);
  Named all;
  auto add = [&](const std::string& what, Part part, const Layout::Entry& e, int which) {
    Digest d;
    d.add(address(*replicas_[size_t(here)], part, e.offset, which, layout().parameter_elements, element),
          e.shape.size() * element);
    all[text(what, " '", e.name, "'")] = d.hex();
  };
  for (auto& e : layout().parameters) add("parameter", Part::parameters, e, 0);
  for (auto& e : layout().buffers) add("buffer", Part::buffers, e, 0);
  for (int k = 0; k < states(); k++)
    for (auto& e : layout().parameters) add(text("optimizer state ", k, " of"), Part::state, e, k);
  return all;
}

std::string Session::digest() {
  const Named first = digests(0);
  for (int r = 1; r < here(); r++)
    for (auto& [name, value] : digests(r))
      if (value != first.at(name)) throw std::runtime_error(text(name, " of rank ", r, " is not that of rank 0"));
  if (peers_) {
    try {
      check_same(*peers_, "Trainer", first);
    } catch (const ValueError& e) { throw std::runtime_error(e.what()); }
  }
  Digest all;
  for (auto& [name, value] : first) all.add(reinterpret_cast<const std::byte*>(value.data()), int64_t(value.size()));
  return all.hex();
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
