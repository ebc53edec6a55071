// function.h: a graph compiled to run on arrays: eager operators, gradients, Hessian-vector products.
#pragma once
#include <mutex>

#include "program.h"

namespace thalweg {

class Function {
 public:
  // tangents: the plan runs on dual numbers; every real input and output has a tangent plane.
  Function(std::shared_ptr<const Graph> graph, std::vector<Value> inputs, std::vector<Value> outputs, DType dtype,
           bool tangents, int threads);

  // Element addresses of every input and output; tangents only where the function has them (null: zeros / not wanted).
  struct Arrays {
    std::vector<const std::byte*> in, in_tangent;
    std::vector<std::byte*> out, out_tangent;
  };
  void run(const Arrays& arrays, uint64_t seed, uint64_t step);

  const std::vector<Value>& inputs() const { return inputs_; }
  const std::vector<Value>& outputs() const { return outputs_; }
  const Type& type(Value v) const { return program_.type(v); }
  std::string what_is(Value v) const { return program_.what_is(v); }
  DType dtype() const { return dtype_; }
  bool tangents() const { return tangents_; }

 private:
  BuildSpec spec() const;
  void load(const Arrays& arrays);
  void store(const Arrays& arrays);

  std::shared_ptr<const Graph> graph_;
  std::vector<Value> inputs_, outputs_;
  DType dtype_;
  bool tangents_;
  int threads_;
  std::vector<char> copied_out_;  // outputs that no instruction makes: an input passed through, a constant
  Program program_;
  Arena activations_, planes_;
  std::vector<int64_t> plane_at_;  // offset in planes_ of inputs, then of outputs
  std::shared_ptr<Communicator> self_;
  std::mutex mutex_;
};

inline constexpr int kMostThreads = 1024;  // of a pool: more are a mistake

// The pool that functions share; one call at a time uses it. threads 0: the cores of this process.
Pool& shared_pool(int threads);
std::mutex& shared_pool_mutex();
void check_not_forked();  // throws where this process is a fork of the one that loaded the engine

}  // namespace thalweg
