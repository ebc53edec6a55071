// program.h: a graph compiled for one rank and one number of rows: a list of instructions whose memory is planned.
// Building it prunes what no output needs, gives every value its rows on this rank, lets reshapes and element loops
// share memory, groups the all-reduces of gradients into buckets, and lays out the activations by liveness. Running it
// allocates nothing after the first time, checks no shape and builds no string.
#pragma once
#include "../comm/communicator.h"
#include "../tensor/arena.h"
#include "../tensor/out_of_memory.h"
#include "graph.h"

namespace thalweg {

// How the global batch lies on the ranks.
struct BatchCut {
  int64_t rows_global = 0;
  int rank = 0, world = 1;
  Shards shards = Shards::whole(0);  // of this rank
  std::vector<int64_t> first_row;    // of every rank, and the end: world + 1 numbers
  int64_t rows() const { return shards.rows(); }
  static BatchCut of(int64_t rows, int shards, int rank, int world);
};

enum class Home : uint8_t { activation, parameter, gradient, buffer, constant, external };

struct BuildSpec {
  Number number = Number::f32;
  BatchCut cut;
  std::vector<Value> outputs;           // alive at the end of a run
  std::vector<Value> external;          // values whose memory the caller binds: inputs, and outputs
  std::map<Value, int64_t> parameters;  // offsets in their arenas, in elements
  std::map<Value, int64_t> buffers;
  std::vector<std::pair<Value, int64_t>> gradients;  // value -> offset in the gradient arena
  int64_t bucket_bytes = 4 << 20;
};

struct Memory {  // base addresses of the arenas of a rank
  std::byte *activations = nullptr, *parameters = nullptr, *gradients = nullptr, *buffers = nullptr;
};

struct Range {
  int64_t begin, end;
};  // of the gradient arena, in elements

// An elementwise node that runs inside the instruction that makes one of its operands.
struct Then {
  int node;
  std::vector<int> in_block, out_block;
};

struct Instruction {
  // bucket: the sum of some gradients over the ranks starts. finish: all of them are there.
  enum class Kind : uint8_t { kernel, all_reduce, merge_moments, bucket, finish } kind = Kind::kernel;
  Kernel kernel;
  std::vector<int> in_block, out_block;  // memory blocks; -1: shape only
  std::vector<Buffer> in, out;           // resolved by bind()
  std::vector<Then> then;                // in this order, block by block of output 0
  std::vector<Follower> followers;       // their kernels, and their memory once it is resolved
  int64_t elements = 0, inner = 0;       // all_reduce: elements; merge_moments: channels, rows under one batch row
  std::vector<Range> ranges;             // bucket
  int node = -1;                         // in the program's nodes; -1: of the plan itself
};

struct InstructionInfo {
  std::string op, path;  // op: "batch_norm + relu" where nodes were joined
  Shape shape;           // of the result (the last joined node's first output), with the rows of this rank
  const char* stored;    // what its elements are stored as: "float32", "bf16", ...
  Cost cost;
};

class Program {
 public:
  Program(const Graph& graph, BuildSpec spec);
  void bind(const Memory& memory);  // call again when an arena moved
  void bind_external(Value v, Buffer b);
  // From now on the rank gets the sums of its own stripes of the gradients alone; length 0: all of them.
  // summed: told of them, as elements of the arena, as they are made.
  void exchange_stripes(const Stripes& stripes, Summed summed = nullptr) {
    stripes_ = stripes;
    summed_ = std::move(summed);
  }
  const Stripes& stripes() const { return stripes_; }
  void resolve();  // after bind or bind_external
  void run(int begin, int end, const Exec&, Communicator&, const StepInfo&);
  int instructions() const { return int(code_.size()); }
  int forward_end(int forward_nodes) const;              // the first instruction that comes from a later node
  Buffer at(Value v) const;                              // where a value lies, once bound
  const Type& type(Value v) const { return types_[v]; }  // with the rows of this rank
  int64_t activation_bytes() const { return activation_bytes_; }
  std::string what_is(Value v) const;  // in words
  // Memory for the activations grows by f(); an error names the largest of them.
  template <class F>
  auto growing(F&& f) const {
    return allocating([this] { return out_of_memory(); }, f);
  }
  int64_t external_bytes(Value v) const;  // of a bound buffer, all planes
  int64_t plane(Value v) const;           // elements from plane to plane
  const BuildSpec& spec() const { return spec_; }
  double seconds_comm() const { return seconds_comm_; }  // that the last run spent on the exchange, or waited for it
  // Runs everything; instruction k took seconds[k].
  void profile(const Exec&, Communicator&, const StepInfo&, double* seconds);
  InstructionInfo describe(int instruction) const;
  // Runs everything and returns the first instruction with an output that is not finite, or -1; `what` names it.
  int inspect(const Exec&, Communicator&, const StepInfo&, std::string& what);

 private:
  struct Block {
    Home home = Home::activation;
    int64_t bytes = 0, offset = 0;
    int first = -1, last = -1;
    std::byte* data = nullptr;
  };
  friend class ProgramBuilder;
  void collective(Instruction& i, Communicator& comm);
  // Whether an external value is among what it reads or writes.
  bool resolve(Instruction& i) const;
  bool resolve(const std::vector<int>& block, const std::vector<Value>* value, std::vector<Buffer>& to) const;
  // The first output of a node that is not finite, or an empty text.
  std::string bad_output(const Exec&, int node, const std::vector<Buffer>& out) const;
  std::string out_of_memory() const;
  Cost cost(const Node& n) const;  // of this rank's part
  Merge sums() const;
  void exchange(const Instruction& i, Communicator& comm);
  void merge_moments(Instruction& i, Communicator& comm);

  const Graph& graph_;
  BuildSpec spec_;
  std::vector<Node> nodes_;  // of the graph, some of them joined
  std::vector<Type> types_;
  std::vector<int> block_of_;  // value -> block; -1: pruned
  std::vector<Block> blocks_;
  std::vector<Instruction> code_;
  Arena constants_;
  std::byte* gradients_ = nullptr;
  bool moved_ = true, external_moved_ = false;  // since resolve(): some memory; external values alone
  std::vector<int> reads_external_;             // instructions
  int64_t activation_bytes_ = 0;
  double seconds_comm_ = 0;
  Stripes stripes_;
  Summed summed_;
  bool exchanging_ = false;  // sums were started that need this thread
  uint64_t exchanged_ = 0;   // the ticket of the newest
};

}  // namespace thalweg
