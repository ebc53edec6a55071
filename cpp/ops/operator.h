// operator.h: what an operator is. One file of this folder describes one operator, once for every executor and number
// type: its rule for shapes and placement (which checks every argument), its kernel, its derivative as further
// operators, and its cost. Operators do not communicate: a value that is a summand on each rank says so by its
// placement, and the graph completes it where it is used.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "../exec/follow.h"
#include "../exec/shards.h"
#include "../tensor/type.h"
#include "attrs.h"

namespace thalweg {

// What a step tells every kernel. Random numbers are keyed by (seed, step, layer path, global row, logical index).
struct StepInfo {
  uint64_t seed = 0;
  uint64_t step = 0;
  int64_t row0 = 0;  // position of this rank's first row in the global batch
};

struct Follower;
struct Launch {
  const Exec& exec;
  const Buffer* in;
  const Buffer* out;
  const StepInfo& step;
  std::span<const Follower> followers = {};
  Follow follow() const;  // for the parts of output 0, from a kernel whose operator `leads`
};
// Built once; checks nothing when it runs, and allocates nothing but what it decides at its first run and keeps. So it
// has one caller at a time; a copy decides for itself.
using Kernel = std::function<void(const Launch&)>;
using BlockKernel = std::function<void(const Launch&, const Block&)>;  // of elements alone: element i of every operand

// An elementwise operator that runs inside the kernel which makes one of its operands, block by block.
struct Follower {
  BlockKernel kernel;
  std::vector<int64_t> far_bytes;  // of an element of each operand that was made long ago; 0 for the others
  std::vector<Buffer> in, out;
};
inline Follow Launch::follow() const {
  if (followers.empty()) return {};
  return {[](const void* self, const Block& b) {
            const auto& l = *static_cast<const Launch*>(self);
            for (const Follower& f : l.followers) f.kernel({l.exec, f.in.data(), f.out.data(), l.step}, b);
          },
          [](const void* self, const Block& b) {
            for (const Follower& f : static_cast<const Launch*>(self)->followers)
              for (size_t k = 0; k < f.in.size(); k++) ask_block(f.in[k].data, f.far_bytes[k], b);
          },
          this};
}

// The node's inputs while a graph is recorded. `op` heads messages: "[conv2d 'net.conv1'] ..."; see check() below.
struct Inputs {
  std::span<const Type> types;
  const Attrs& attrs;
  const std::string& where;  // "[conv2d 'net.conv1'] "
  const Type& operator[](size_t i) const { return types[i]; }
  size_t size() const { return types.size(); }
};

// Where a node stands in a plan: everything that its kernel may depend on.
struct Site {
  std::span<const Type> in, out;  // local shapes: axis 0 of a batched value has this rank's rows
  const Attrs& attrs;
  Number number;
  const Shards& shards;     // of this rank's rows
  int64_t rows_global = 0;  // rows of the global batch
  uint64_t path_key = 0;    // hash of the layer path, for random numbers
  // The cut of a value's axis 0: the rank's shards when it is batched, else one shard.
  Shards cut(const Type& t) const { return t.batched() ? shards : Shards::whole(t.shape.rank() ? t.shape[0] : 1); }
};

struct Cost {
  double flops = 0;      // multiplications and additions
  double bytes = 0;      // read and written, each tensor once
  double mult_adds = 0;  // of products only: what network tables print
};

using Value = int32_t;  // names a value of the graph
inline constexpr Value kNone = -1;

// How backward rules record further nodes.
class Recorder {
 public:
  virtual ~Recorder() = default;
  virtual std::vector<Value> apply_all(const std::string& op, std::vector<Value> in, Attrs attrs) = 0;
  virtual const Type& type(Value) const = 0;
  virtual Value constant(double) = 0;  // a scalar
  Value apply(const std::string& op, std::vector<Value> in, Attrs attrs = {}) {
    return apply_all(op, std::move(in), std::move(attrs))[0];
  }
};

struct Applied {  // a recorded node, as its backward rule sees it
  std::span<const Value> in, out;
  const Attrs& attrs;
};

inline constexpr char kToBf16[] = "to_bf16", kToFloat32[] = "to_float32";  // operators between ways of storing a value
inline constexpr char kSync[] = "sync";            // the attribute of what ranks do without one another: "rank"
inline constexpr char kPrecision[] = "precision";  // the attribute of products whose operands are rounded: "bf16"

struct Operator {
  std::string name;
  // Types of the outputs. Raises ValueError or TypeError for anything that the operator does not accept.
  std::vector<Type> (*infer)(const Inputs&) = nullptr;
  Kernel (*kernel)(const Site&) = nullptr;
  // Gradients for each input, kNone where there is none; d_out[i] is kNone where nothing flows. Null: not
  // differentiable.
  std::vector<Value> (*backward)(Recorder&, const Applied&, std::span<const Value> d_out) = nullptr;
  // Elementwise operators on operands of one shape: the kernel on a block. May return null for other shapes.
  BlockKernel (*block)(const Site&) = nullptr;
  bool leads = false;                   // the kernel calls Launch::follow() for every element of output 0 when final
  Cost (*cost)(const Site&) = nullptr;  // null: one flop an output element, every tensor moved once
  uint32_t shape_only = 0;              // bit i: input i gives its shape only; its memory is not read
  uint32_t inplace = 0;                 // bit i: output 0 may take the memory of input i
  // Bit i: where the attribute "sync" is there, as "rank", input i is what this rank has, not yet summed or merged over
  // the ranks. Output 0 is the same part of a sum that input 0 is.
  uint32_t own = 0;
  // An elementwise operator that the kernel applies to its result itself, told by the attribute "activation"; in a
  // backward operator: whose derivative it applies to d_y, input 0, first. Programs fuse the two (plan/fuse.h).
  const char* activations = "";
  // The operator (d_out, in...) -> (out, d_in[0]) that makes the result and its gradient in one pass, for programs that
  // know d_out beforehand (plan/fuse.h).
  const char* with_gradient = "";
  // Which inputs and outputs a plan in bf16 may store as bf16 (plan/precision.h): bit i; all of them or none, but of a
  // product all inputs and no output, too. `product`: its operands are rounded to bf16 there, which the attribute
  // "precision" tells the kernel. `asks`: it gains where its inputs are stored so; others take them as they come.
  uint32_t bf16_in = 0, bf16_out = 0;
  bool product = false, asks = true;
  const char* called = "";  // how messages name it: the function of thalweg.ops that records it; empty: by its name

  std::string title() const { return *called ? called : name; }
};

class Registry {
 public:
  void add(Operator op) { ops_.push_back(std::make_unique<Operator>(std::move(op))); }
  const Operator* find(const std::string& name) const {
    for (auto& op : ops_)
      if (op->name == name) return op.get();
    return nullptr;
  }
  const std::vector<std::unique_ptr<Operator>>& all() const { return ops_; }

 private:
  std::vector<std::unique_ptr<Operator>> ops_;
};

template <class... Parts>
void check(bool ok, const Inputs& in, const Parts&... message) {
  if (!ok) fail(in.where, message...);
}

}  // namespace thalweg
