// replica.h: the memory of one rank of a training run, and who works on it.
#pragma once
#include <string>

#include "../comm/communicator.h"
#include "../ops/kernels.h"
#include "../tensor/arena.h"

namespace thalweg {

// Where every parameter and buffer lies: the same offsets in the arenas of parameters, gradients and each state.
struct Layout {
  struct Entry {
    std::string name;
    Shape shape;
    int64_t offset;
    bool trainable;
    int group;
  };
  std::vector<Entry> parameters, buffers;
  int64_t parameter_elements = 0, buffer_elements = 0;  // of the arenas, with padding
  std::vector<Segment> segments;                        // what the optimizer updates

  void add_parameter(const std::string& name, const Shape& shape, bool trainable, int group);
  void add_buffer(const std::string& name, const Shape& shape);
};

// Memory of the sums that ranks exchange: where the others see it, if there is such memory.
class Exchanged {
 public:
  Exchanged(Arena own) : own_(std::move(own)) {}
  Exchanged(std::shared_ptr<std::byte> seen, int64_t bytes) : seen_(std::move(seen)), bytes_(bytes) {}
  std::byte* data() const { return seen_ ? seen_.get() : own_.data(); }
  int64_t bytes() const { return seen_ ? bytes_ : own_.bytes(); }

 private:
  Arena own_;
  std::shared_ptr<std::byte> seen_;
  int64_t bytes_ = 0;
};

struct Replica {
  // peers: ranks of other processes, null for none.
  Replica(const Layout& layout, DType dtype, int states, int threads, Communicator* peers);
  void clear_state(const Layout& layout, DType dtype, int states);  // of the optimizer, of no update yet
  Exec exec() { return {*pool}; }

  std::shared_ptr<Communicator> comm;
  std::unique_ptr<Pool> pool;
  Arena parameters;
  Exchanged gradients;
  Arena state, buffers;
  Arena accumulated;     // sums of earlier micro-batches; made at first use
  Arena activations;     // shared by the plans of all row counts, as large as the largest needs
  Arena inputs;          // gathered rows of a batch
  uint64_t version = 0;  // counts moves of the last two: plans bind again
};

}  // namespace thalweg
