// batch_norm.cpp: batch norm with its ReLU, forward and backward, operator by operator as a plan runs them, against the
// machine's copy bandwidth.
//   batch_norm [threads ...]    (default: 1 2)
// The least traffic of a tensor that does not fit in cache is 8 traversals: forward reads x twice and writes y,
// backward reads x and d_y twice and writes d_x. The last column is the time of that traffic at copy speed over ours.
#include <cstdio>
#include <cstdlib>

#include "memory.h"
#include "plan/function.h"

using namespace thalweg;
using namespace thalweg::bench;

namespace {

struct Network {
  std::shared_ptr<Graph> graph = std::make_shared<Graph>(0);
  std::vector<Value> inputs, forward, all;
};

Network record(const Shape& shape) {
  Network n;
  Graph& g = *n.graph;
  const Shape channels{shape.back()};
  const Value x = g.input("x", shape, Kind::real, false), d_y = g.input("d_y", shape, Kind::real, false);
  const Value gamma = g.input("gamma", channels, Kind::real, false),
              beta = g.input("beta", channels, Kind::real, false);
  const Value stats = g.apply("moments", {x});
  const Value y = g.apply("relu", {g.apply("batch_norm", {x, stats, gamma, beta}, {{"eps", 1e-5}})});
  n.inputs = {x, d_y, gamma, beta};
  n.forward = {y};
  const std::vector<Value> wrt{x, gamma, beta};
  n.all = g.gradient(y, wrt, d_y);
  n.all.push_back(y);
  return n;
}

struct Call {
  std::unique_ptr<Function> function;
  std::vector<Arena> memory;
  Function::Arrays arrays;
  Call(const Network& n, const std::vector<Value>& outputs, int threads)
      : function(std::make_unique<Function>(n.graph, n.inputs, outputs, DType::f32, false, threads)) {
    for (Value v : n.inputs) {
      memory.push_back(random_floats(n.graph->type(v).shape.size(), uint64_t(v) + 1));
      arrays.in.push_back(memory.back().data());
    }
    for (Value v : outputs) {
      memory.emplace_back(n.graph->type(v).shape.size() * 4);
      arrays.out.push_back(memory.back().data());
    }
    arrays.in_tangent.resize(n.inputs.size());
  }
  void operator()() { function->run(arrays, 0, 0); }
};

void run(const Shape& shape, int threads) {
  const Network n = record(shape);
  Call forward(n, n.forward, threads), all(n, n.all, threads);
  const Exec exec{shared_pool(threads)};
  const int64_t bytes = shape.size() * 4;
  Arena from(bytes), to(bytes);
  const Race r = race({[&] { copy(exec, to.data(), from.data(), bytes); }, [&] { forward(); }, [&] { all(); }}, 7);
  std::printf("(%ld rows, %ld channels), %d thread%s: copy %.1f GB/s, forward %.3f ms, both %.3f ms, %.0f %% of copy\n",
              long(shape.rows()), long(shape.back()), threads, threads > 1 ? "s" : "", 2e-9 * double(bytes) / r.time(0),
              r.time(1) * 1e3, r.time(2) * 1e3, 100 * 4 * r.time(0) / r.time(2));
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int> threads;
  for (int i = 1; i < argc; i++) threads.push_back(std::atoi(argv[i]));
  if (threads.empty()) threads = {1, 2};
  for (int t : threads)
    for (const Shape& s : {Shape{128, 512}, Shape{64, 32, 32, 32}, Shape{128, 32, 32, 64}}) run(s, t);
}
