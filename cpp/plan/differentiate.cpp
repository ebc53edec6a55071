// differentiate.cpp: reverse mode on the recorded graph. Each operator's rule records its own backward nodes, so a plan
// holds them like any other; run on dual numbers they give exact Hessian-vector products.
#include "graph.h"

namespace thalweg {
namespace {

// Which values depend on one of wrt.
std::vector<char> depends_on(const Graph& g, std::span<const Value> wrt, size_t nodes) {
  std::vector<char> depends(g.values(), 0);
  for (Value v : wrt) depends[v] = 1;
  for (size_t i = 0; i < nodes; i++) {
    const Node& n = g.nodes()[i];
    for (size_t k = 0; k < n.in.size(); k++) {
      const bool reads = !n.op || !(n.op->shape_only >> k & 1);
      if (!reads || !depends[n.in[k]]) continue;
      for (Value o : n.out) depends[o] = 1;
    }
  }
  return depends;
}

void check_seed(const Graph& g, Value output, Value seed) {
  const Shape& s = g.type(output).shape;
  if (g.type(output).kind != Kind::real) fail("an index value has no gradient");
  if (seed == kNone && s.size() != 1)
    fail("the gradient of a value of shape ", s, " needs a seed; without one the output must be a scalar");
  if (seed != kNone && !(g.type(seed).shape == s))
    fail("the seed has shape ", g.type(seed).shape, ", expected that of the output, ", s);
}

}  // namespace

Value Graph::add_gradients(Value a, Value b) { return a == kNone ? b : b == kNone ? a : apply("add", {a, b}); }

std::vector<Value> Graph::gradient(Value output, std::span<const Value> wrt, Value seed) {
  check_seed(*this, output, seed);
  const size_t forward = nodes_.size();
  const std::vector<char> depends = depends_on(*this, wrt, forward);
  std::vector<Value> d(values_.size(), kNone);
  const std::string path = path_;
  if (seed == kNone) {
    seed = constant(1);
    if (type(output).shape.rank()) seed = apply("expand", {seed, output});
  }
  d[output] = seed;
  for (size_t i = forward; i-- > 0;) {
    const Node n = nodes_[i];  // a copy: recording moves the list
    std::vector<Value> d_out;
    bool flows = false, wanted = false;
    for (Value o : n.out) {
      d_out.push_back(d[o]);
      flows |= d[o] != kNone;
      wanted |= depends[o] != 0;
    }
    if (!flows || !wanted) continue;
    if (!n.op) {  // a collective completes a sum: the global value is the same one
      d[n.in[0]] = add_gradients(d[n.in[0]], d_out[0]);
      continue;
    }
    path_ = n.path;
    if (!n.op->backward) {
      if (n.name.find("_backward") == std::string::npos) continue;  // piecewise constant: comparisons and the like
      fail("[", n.name, "] has no derivative of its own; for second derivatives use hvp (forward over reverse)");
    }
    const std::vector<Value> d_in = n.op->backward(*this, {n.in, n.out, n.attrs}, d_out);
    for (size_t k = 0; k < n.in.size(); k++)
      if (k < d_in.size() && d_in[k] != kNone && depends[n.in[k]]) d[n.in[k]] = add_gradients(d[n.in[k]], d_in[k]);
  }
  path_ = path;
  std::vector<Value> out;
  for (Value v : wrt) out.push_back(d[v] != kNone ? d[v] : apply("zeros_like", {v}));
  return out;
}

}  // namespace thalweg
