#include "model.h"

#include <numeric>

namespace thalweg {
namespace {

std::vector<int64_t> all_axes(int rank) {
  std::vector<int64_t> axes(rank);
  std::iota(axes.begin(), axes.end(), 0);
  return axes;
}

// The sum over all elements of a value with one entry (or more) for each row of the batch.
Value total(Graph& g, Value v, const char* what) {
  if (!g.type(v).batched())
    fail(what, " has shape ", g.type(v).shape, " and no batch axis; expected one value for each row");
  return g.complete(g.apply("reduce_sum", {v}, {{"axes", all_axes(g.type(v).shape.rank())}, {"keepdims", false}}));
}

Value batched_input(const Graph& g, const std::vector<Value>& inputs) {
  for (Value v : inputs)
    if (g.type(v).batched()) return v;
  fail("a training graph needs a batched input");
}

// Adds what a step reports: sums over the rows. A scalar loss is a mean over the batch: it counts as often as there are
// rows.
Recorded prepare(Recording r) {
  Recorded out{std::move(r.graph), std::move(r.inputs), kNone, 1, {}, std::move(r.outputs), {}, 0};
  Graph& g = out.graph;
  const Type& loss = g.type(r.loss);
  if (loss.batched()) {
    out.loss_per_row = loss.shape.product(1, loss.shape.rank());
    out.loss_sum = total(g, r.loss, "the loss");
  } else {
    const Value complete = g.complete(r.loss);
    if (g.type(complete).shape.size() != 1)
      fail("the loss has shape ", g.type(complete).shape,
           "; expected one value for each row of the batch, or a scalar");
    out.loss_sum = g.apply("mul", {complete, g.apply("batch_rows", {batched_input(g, out.inputs)})});
  }
  for (Value m : r.metrics) out.metric_sums.push_back(total(g, m, "a metric"));
  out.forward_nodes = int(g.nodes().size());
  return out;
}

void differentiate(Recorded& r) {
  std::vector<Value> wrt;
  for (Value v = 0; v < r.graph.values(); v++)
    if (r.graph.info(v).role == Role::parameter && r.graph.info(v).trainable) wrt.push_back(v);
  const std::vector<Value> d = r.graph.gradient(r.loss_sum, wrt);
  for (size_t i = 0; i < wrt.size(); i++) r.gradients.push_back({wrt[i], d[i]});
}

}  // namespace

Model::Model(Recording recorded_train, Recording recorded_evaluate, const std::map<std::string, int>& group_of,
             Precision precision)
    : train(prepare(std::move(recorded_train))), evaluate(prepare(std::move(recorded_evaluate))), precision(precision) {
  differentiate(train);
  predict = evaluate;
  predict.loss_sum = kNone;
  predict.metric_sums.clear();
  evaluate.outputs.clear();
  for (Value v = 0; v < train.graph.values(); v++) {
    const ValueInfo& info = train.graph.info(v);
    const auto group = group_of.find(info.name);
    if (info.role == Role::parameter)
      layout.add_parameter(info.name, info.type.shape, info.trainable, group == group_of.end() ? 0 : group->second);
    if (info.role == Role::buffer) layout.add_buffer(info.name, info.type.shape);
  }
  for (auto& [name, group] : group_of) groups = std::max(groups, group + 1);
  if (precision != Precision::bf16) return;
  for (Recorded* r : {&train, &evaluate, &predict}) *r = in_bf16(*r);
}

}  // namespace thalweg
