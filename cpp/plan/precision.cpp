#include "precision.h"

#include <algorithm>

#include "../ops/kernels.h"

namespace thalweg {
namespace {

bool has(uint32_t mask, size_t i) { return mask >> i & 1; }

}  // namespace

Bf16Graph::Bf16Graph(const Graph& from, int forward_nodes)
    : from_(from),
      to_(from.rows()),
      asked_(size_t(from.values()), 0),
      plain_(size_t(from.values()), kNone),
      bf16_(size_t(from.values()), kNone),
      made_bf16_(size_t(from.values()), 0) {
  ask(forward_nodes);
  for (Value v = 0; v < from_.values(); v++)
    if (from_.info(v).node < 0) plain_[v] = to_.append(from_.info(v));
  for (const Node& n : from_.nodes()) {
    nodes_before_.push_back(int(to_.nodes().size()));
    rewrite(n);
  }
  nodes_before_.push_back(int(to_.nodes().size()));
  for (auto& [buffer, update] : from_.buffer_updates()) to_.update_buffer(value(buffer), value(update));
}

// The node's kernel knows values stored as bf16, of the types that it has here.
bool Bf16Graph::can(const Node& n) const {
  if (!n.op || n.op->bf16_in == 0 || n.in.size() > 32 || n.out.size() > 32) return false;  // masks of 32 bits
  auto fits = [&](Value v) {
    const Type& t = from_.type(v);
    return t.kind == Kind::real && t.batched() && (!n.op->block || t.shape == from_.type(n.out[0]).shape);
  };
  for (size_t i = 0; i < n.in.size(); i++)
    if (has(n.op->bf16_in, i) && !fits(n.in[i])) return false;
  for (size_t i = 0; i < n.out.size(); i++)
    if (has(n.op->bf16_out, i) && !fits(n.out[i])) return false;
  return true;
}

void Bf16Graph::ask(int forward_nodes) {
  for (int k = int(from_.nodes().size()) - 1; k >= 0; k--) {
    const Node& n = from_.nodes()[size_t(k)];
    if (!can(n)) continue;
    bool gains = n.op->product || (n.op->bf16_out == 0 && n.op->asks);
    for (size_t i = 0; i < n.out.size(); i++) gains |= has(n.op->bf16_out, i) && asked_[n.out[i]];
    for (size_t i = 0; gains && i < n.in.size(); i++)
      if (has(n.op->bf16_in, i) && (k < forward_nodes || from_.info(n.in[i]).node >= forward_nodes))
        asked_[n.in[i]] = 1;
  }
}

// Whether the node takes operands, and makes results, that are stored as bf16.
Bf16Graph::Stored Bf16Graph::stored_parts(const Node& n) const {
  if (!can(n)) return {};
  const bool makes = n.op->bf16_out != 0, is_product = n.op->product;
  bool finds = false, asked = false;
  for (size_t i = 0; i < n.in.size(); i++) finds |= has(n.op->bf16_in, i) && made_bf16_[n.in[i]];
  for (size_t i = 0; i < n.out.size(); i++) asked |= has(n.op->bf16_out, i) && asked_[n.out[i]];
  const bool out = asked && (finds || is_product);
  return {out || (finds && (is_product || !makes)), out};
}

Value Bf16Graph::converted(Value v, const char* op, Kind kind, const std::string& path) {
  Type t = to_.type(v);
  t.kind = kind;
  return to_.append(Node{kernels().operators.find(op), op, {v}, {}, {}, path}, {t})[0];
}
Value Bf16Graph::stored(Value v, const std::string& path) {
  if (bf16_[v] == kNone) bf16_[v] = converted(plain_[v], kToBf16, Kind::bf16, path);
  return bf16_[v];
}
Value Bf16Graph::value(Value v) {
  if (plain_[v] == kNone) {
    const int maker = from_.info(v).node;
    plain_[v] = converted(bf16_[v], kToFloat32, Kind::real, from_.nodes()[maker].path);
  }
  return plain_[v];
}

void Bf16Graph::rewrite(const Node& n) {
  const Stored parts = stored_parts(n);
  Node made = n;
  made.out.clear();
  for (size_t i = 0; i < n.in.size(); i++) {
    const bool shape_only = n.op && i < 32 && has(n.op->shape_only, i);
    if (parts.in && has(n.op->bf16_in, i)) made.in[i] = stored(n.in[i], n.path);
    else if (shape_only && plain_[n.in[i]] == kNone) made.in[i] = bf16_[n.in[i]];
    else made.in[i] = value(n.in[i]);
  }
  if (n.op && n.op->product) made.attrs.set(kPrecision, "bf16");
  std::vector<Type> types;
  for (size_t i = 0; i < n.out.size(); i++) {
    types.push_back(from_.type(n.out[i]));
    if (parts.out && has(n.op->bf16_out, i)) types.back().kind = Kind::bf16;
  }
  const std::vector<Value> out = to_.append(std::move(made), types);
  for (size_t i = 0; i < out.size(); i++) {
    made_bf16_[n.out[i]] = types[i].kind == Kind::bf16;
    (made_bf16_[n.out[i]] ? bf16_ : plain_)[n.out[i]] = out[i];
  }
}

Recorded in_bf16(const Recorded& r) {
  Bf16Graph made(r.graph, r.forward_nodes);
  Recorded out = r;
  auto rename = [&](std::vector<Value>& values) {
    for (Value& v : values) v = made.value(v);
  };
  rename(out.inputs);
  rename(out.metric_sums);
  rename(out.outputs);
  if (r.loss_sum != kNone) out.loss_sum = made.value(r.loss_sum);
  for (auto& [parameter, gradient] : out.gradients) {
    parameter = made.value(parameter);
    gradient = made.value(gradient);
  }
  out.forward_nodes = made.nodes_before(r.forward_nodes);
  out.graph = made.take();
  return out;
}

}  // namespace thalweg
