#include "graph.h"

#include <bit>

#include "../ops/kernels.h"
#include "../tensor/out_of_memory.h"

namespace thalweg {
namespace {

// Every message of an operator begins with its name, also those of what it is made of (shapes, attributes).
std::vector<Type> infer(const Operator& op, const Inputs& in) {
  try {
    std::vector<Type> out = op.infer(in);
    for (const Type& t : out) {
      Shape one_row = t.shape;  // a recorded batch has a nominal number of rows; a program checks its own
      if (t.batched()) one_row[0] = 1;
      check_size(one_row, in.where);
    }
    return out;
  } catch (const ValueError& e) {
    if (e.what()[0] == '[') throw;
    fail(in.where, e.what());
  }
}

}  // namespace

const ValueInfo& Graph::info(Value v) const {
  if (v < 0 || v >= values()) fail("value ", v, " is not in this graph of ", values(), " values");
  return values_[v];
}

Value Graph::append(ValueInfo v) {
  values_.push_back(std::move(v));
  return Value(values_.size() - 1);
}

Value Graph::add_named(Role role, const std::string& name, Type type, bool trainable) {
  if (find(role, name) != kNone) fail("the name '", name, "' is taken");
  for (int64_t n : type.shape)
    if (n < 0) fail("'", name, "' has shape ", type.shape, ": extents must not be negative");
  check_size(type.shape, "'", name, "': ");
  return append({role, type, name, trainable});
}

Value Graph::find(Role role, const std::string& name) const {
  for (Value v = 0; v < values(); v++)
    if (values_[v].role == role && values_[v].name == name) return v;
  return kNone;
}

Value Graph::input(const std::string& name, const Shape& shape, Kind kind, bool batch) {
  if (batch && (shape.rank() == 0 || shape[0] != rows_))
    fail("batched input '", name, "' has shape ", shape, ", expected ", rows_, " rows");
  return add_named(Role::input, name, {shape, kind, batch ? Placement::batch : Placement::replicated});
}
Value Graph::parameter(const std::string& name, const Shape& shape, bool trainable) {
  return add_named(Role::parameter, name, {shape}, trainable);
}
Value Graph::buffer(const std::string& name, const Shape& shape) { return add_named(Role::buffer, name, {shape}); }

Value Graph::constant(double x) {
  if (x != x) return append({Role::constant, {}, "", false, x});  // NaN is no key
  // -0.0 and 0.0 are equal as keys and different as numbers.
  if (x == 0 && std::signbit(x)) return append({Role::constant, {}, "", false, x});
  auto [it, is_new] = constants_.try_emplace(x, kNone);
  if (is_new) it->second = append({Role::constant, {}, "", false, x});
  return it->second;
}

Cost cost_of(const Node& n, const Site& site) {
  if (n.op && n.op->cost) return n.op->cost(site);
  Cost c;
  for (const Type& t : site.out) c.flops += double(t.shape.size());
  for (size_t i = 0; i < site.in.size(); i++)
    if (!n.op || !(n.op->shape_only >> i & 1))
      c.bytes += double(site.in[i].shape.size() * element_bytes(site.number, site.in[i].kind));
  for (const Type& t : site.out) c.bytes += double(t.shape.size() * element_bytes(site.number, t.kind));
  return c;
}

std::vector<Value> Graph::append(Node node, const std::vector<Type>& types) {
  for (const Type& t : types) node.out.push_back(append({Role::node, t, "", false, 0, int(nodes_.size())}));
  nodes_.push_back(std::move(node));
  return nodes_.back().out;
}

Value Graph::complete(Value v) {
  Type t = type(v);
  if (t.place != Placement::partial && t.place != Placement::moments) return v;
  auto [it, is_new] = completed_.try_emplace(v, kNone);
  if (is_new) {
    const char* name = t.place == Placement::partial ? kAllReduce : kMergeMoments;
    Attrs attrs;
    if (t.place == Placement::moments) {  // rows of x under one row of the batch
      const Type& x = type(nodes_[info(v).node].in[0]);
      attrs.set("inner", x.shape.product(1, x.shape.rank() - 1));
    }
    t.place = Placement::replicated;
    it->second = append({nullptr, name, {v}, {}, attrs, path_}, {t})[0];
  }
  return completed_[v];
}

std::vector<Value> Graph::apply_all(const std::string& name, std::vector<Value> in, Attrs attrs) {
  const Operator* op = kernels().operators.find(name);
  if (!op) fail("there is no operator '", name, "'");
  const bool adds_partials = name == "add" && in.size() == 2 && type(in[0]).place == Placement::partial &&
                             type(in[1]).place == Placement::partial && type(in[0]).shape == type(in[1]).shape;
  const uint32_t own = attrs.has(kSync) ? op->own : 0;
  std::vector<Type> types;
  for (size_t i = 0; i < in.size(); i++) {
    if (!adds_partials && !((op->shape_only | own) >> i & 1)) in[i] = complete(in[i]);
    types.push_back(type(in[i]));
    if (adds_partials) types.back().place = Placement::replicated;
  }
  const std::string where = text("[", op->title(), path_.empty() ? "" : " '" + path_ + "'", "] ");
  std::vector<Type> out = infer(*op, Inputs{types, attrs, where});
  if (adds_partials || (own & 1 && types[0].place == Placement::partial)) out[0].place = Placement::partial;
  return append({op, name, std::move(in), {}, std::move(attrs), path_}, out);
}

void Graph::update_buffer(Value buffer, Value value) {
  if (info(buffer).role != Role::buffer) fail("value ", buffer, " is not a buffer");
  value = complete(value);
  if (type(value).batched() || type(value).kind != Kind::real)
    fail("the update of buffer '", info(buffer).name, "' has the shape ", type(value).shape,
         type(value).batched() ? " with the batch as axis 0" : " of class numbers", ", expected real numbers of shape ",
         type(buffer).shape);
  if (!(type(buffer).shape == type(value).shape))
    fail("buffer '", info(buffer).name, "' has shape ", type(buffer).shape, ", its update ", type(value).shape);
  buffer_updates_[buffer] = value;
}

}  // namespace thalweg
