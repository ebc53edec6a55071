// precision.h: a recorded step, rewritten to run in bf16. Products round their operands to bf16 and sum in float32;
// what lies between them is stored as bf16. Parameters and their gradients, statistics, sums, losses and all arithmetic
// of formulas stay float32.
//   A value may be stored as bf16 where it is real and batched, and its maker knows how to (Operator::bf16_out). It is
// where some reader gains from it: a product, a statistic, or an operator between whose own result is stored so for the
// same reason; of a value of the forward pass, a reader there. So what only a loss reads stays float32.
//   A product takes part whatever its operands are stored as, and reads what is stored as bf16 where it lies, even if
//   its own result stays float32; what lies between takes part only where one of its operands was made as bf16. What
//   was made as float32 and rounded for a product is float32 to all others.
// The others find conversions around them.
#pragma once
#include "plan.h"

namespace thalweg {

enum class Precision : uint8_t { full, bf16 };  // full: as the number type of the plan says

class Bf16Graph {
 public:
  Bf16Graph(const Graph& from, int forward_nodes);  // the first nodes are the forward pass
  Value value(Value v);                             // the same value, float32, recording its conversion if need be
  Graph take() { return std::move(to_); }
  int nodes_before(int node) const { return nodes_before_[size_t(node)]; }  // how many the first `node` nodes became

 private:
  bool can(const Node& n) const;
  void ask(int forward_nodes);
  struct Stored {
    bool in = false, out = false;
  };
  Stored stored_parts(const Node& n) const;
  void rewrite(const Node& n);
  Value stored(Value v, const std::string& path);
  Value converted(Value v, const char* op, Kind kind, const std::string& path);

  const Graph& from_;
  Graph to_;
  std::vector<char> asked_;          // of each value: some reader gains where it is stored as bf16
  std::vector<Value> plain_, bf16_;  // of each value: the new one that is float32, and the one that is bf16
  std::vector<char> made_bf16_;      // of each value: the second is no conversion of the first
  std::vector<int> nodes_before_;
};

Recorded in_bf16(const Recorded& r);

}  // namespace thalweg
