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

// The optimizer's state of one rank. Ranks that share the update each keep their own stripes up to date; whoever looks
// at all of it gets the others' too, which stay as they are until this rank takes part in the next update.
class State {
 public:
  State() : memory_(Arena()) {}
  std::byte* data() const;  // all of it
  std::byte* own() {        // to be updated
    whole_ = stripes_.length == 0;
    return memory_.data();
  }
  int64_t bytes() const { return memory_.bytes(); }
  void take(Exchanged memory) { memory_ = std::move(memory); }
  // all: where each rank has its own, of so many arrays of `stride` elements.
  void share(const Stripes& stripes, int rank, int states, int64_t stride, int64_t element_bytes,
             std::vector<std::byte*> all);

 private:
  Exchanged memory_;
  Stripes stripes_;
  int rank_ = 0, states_ = 0;
  int64_t stride_ = 0, element_bytes_ = 0;
  std::vector<std::byte*> all_;
  mutable bool whole_ = true;
};

// How the ranks share the update where they see one another's parameters: each updates its stripes for all.
struct SharedUpdate {
  Stripes stripes;                     // length 0: every rank updates all parameters
  std::vector<std::byte*> parameters;  // of each rank
  std::vector<Segment> segments;       // this rank's part
};

struct Replica {
  // peers: ranks of other processes, null for none.
  Replica(const Layout& layout, DType dtype, int states, int threads, Communicator* peers);
  void clear_state(const Layout& layout, DType dtype, int states);  // of the optimizer, of no update yet
  // Lets the ranks share the update, if they can and it is worth it; all call it together.
  void share_update(const Layout& layout, DType dtype, int states);
  Exec exec() { return {*pool}; }

  std::shared_ptr<Communicator> comm;
  std::unique_ptr<Pool> pool;
  Exchanged parameters, gradients;
  State state;
  Arena buffers;
  SharedUpdate shared;
  Arena accumulated;     // sums of earlier micro-batches; made at first use
  Arena activations;     // shared by the plans of all row counts, as large as the largest needs
  Arena inputs;          // gathered rows of a batch
  uint64_t version = 0;  // counts moves of the last two: plans bind again

 private:
  Communicator* peers_;
};

}  // namespace thalweg
