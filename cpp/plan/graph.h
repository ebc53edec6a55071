// graph.h: a computation as it was recorded: values, and the nodes that make them. Shapes are inferred and arguments
// checked while recording. A graph describes the global computation on the whole batch; a program (program.h) is the
// part of one rank. Where a value that is a summand on each rank is used, the graph records the collective that
// completes it, once.
#pragma once
#include <map>
#include <string>

#include "../ops/operator.h"

namespace thalweg {

enum class Role : uint8_t { input, parameter, buffer, constant, node };

struct ValueInfo {
  Role role;
  Type type;
  std::string name;        // inputs, parameters, buffers
  bool trainable = false;  // parameters
  double constant = 0;     // constants: a scalar
  int node = -1;           // nodes: which one makes it
};

inline constexpr const char* kAllReduce = "all_reduce";  // collectives: nodes without an operator
inline constexpr const char* kMergeMoments = "merge_moments";

struct Node {
  const Operator* op;  // null for a collective
  std::string name;
  std::vector<Value> in, out;
  Attrs attrs;
  std::string path;  // of the layer that recorded it
};

// What a node costs. Where its operator does not say: one flop an output element, every tensor moved once.
Cost cost_of(const Node& n, const Site& site);

class Graph final : public Recorder {
 public:
  // rows: the nominal number of rows of batched inputs; a program has its own.
  explicit Graph(int64_t rows) : rows_(rows) {}

  Value input(const std::string& name, const Shape& shape, Kind kind, bool batch);
  Value parameter(const std::string& name, const Shape& shape, bool trainable);
  Value buffer(const std::string& name, const Shape& shape);
  Value constant(double x) override;
  std::vector<Value> apply_all(const std::string& op, std::vector<Value> in, Attrs attrs) override;
  const Type& type(Value v) const override { return info(v).type; }

  Value complete(Value v);  // v itself, or what its collective makes of it
  // Records the backward nodes of d output / d wrt; the seed (kNone: 1 for a scalar) starts them.
  std::vector<Value> gradient(Value output, std::span<const Value> wrt, Value seed = kNone);
  void update_buffer(Value buffer, Value value);

  // As they stand, without inference: for a pass that rewrites a graph (precision.h).
  Value append(ValueInfo v);
  std::vector<Value> append(Node node, const std::vector<Type>& types);

  void set_path(std::string path) { path_ = std::move(path); }
  int64_t rows() const { return rows_; }
  const ValueInfo& info(Value v) const;
  int values() const { return int(values_.size()); }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::map<Value, Value>& buffer_updates() const { return buffer_updates_; }
  Value find(Role role, const std::string& name) const;  // kNone where there is none

 private:
  Value add_named(Role role, const std::string& name, Type type, bool trainable = false);
  Value add_gradients(Value a, Value b);

  int64_t rows_;
  std::string path_;
  std::vector<ValueInfo> values_;
  std::vector<Node> nodes_;
  std::map<Value, Value> completed_;
  std::map<double, Value> constants_;
  std::map<Value, Value> buffer_updates_;
};

}  // namespace thalweg
