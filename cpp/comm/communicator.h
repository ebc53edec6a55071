// communicator.h: how ranks talk. A communicator of size 1 is an identity, so one-process and N-process code are one.
// Sums and moments follow one binary tree over the ranks, near partner first (rank r with r ^ 1, then r ^ 2, ...):
// the continuation of the tree over the shards (exec/shards.h). For other numbers of ranks the tree is that of
// fold_tree over 0..size-1. merge must be bitwise commutative.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace thalweg {

struct Lost : std::runtime_error {
  using std::runtime_error::runtime_error;
};  // a peer failed or has left; names it and why

struct Ranks {
  int first, last;
};  // a run of ranks whose values are already merged
// into = merge(into, from) for `count` elements.
using Merge =
    std::function<void(std::byte* into, Ranks into_ranks, const std::byte* from, Ranks from_ranks, int64_t count)>;

// Elements dealt out among ranks: number i is that of rank i / length % size. length 0: they are not.
struct Stripes {
  int64_t length = 0;
  int64_t first = 0;  // the number of the first element of an array

  // f(begin, end) for the runs of rank r among `count` elements of the array.
  template <class F>
  void each(int r, int size, int64_t count, const F& f) const {
    for (int64_t k = first / length; k * length < first + count; k++)
      if (k % size == r) f(std::max(k * length - first, int64_t(0)), std::min((k + 1) * length - first, count));
  }
};

// Told of elements [begin, end) of an array that hold their sum now, while they are in L2.
using Summed = std::function<void(int64_t begin, int64_t end)>;

// What the ranks are at: the updates done and the rows of the batch (-1: nothing in particular), and the call of a
// trainer that this belongs to, such as "save" (empty: none).
struct Context {
  int64_t update = -1, rows = -1;
  std::array<char, 16> inside{};
  bool operator==(const Context&) const = default;
};

enum class Operation : int32_t { barrier, all_reduce, reduce_scatter, all_gather, broadcast, send, recv, split };

// What a rank asks for: of this both forms of a call are made, the one that waits and the one that is started.
struct Ask {
  Operation operation;
  std::byte* data = nullptr;                // all_gather and send only read it
  int64_t elements = 0, element_bytes = 0;  // units that merge() works on
  int peer = 0;                             // the root of a broadcast; whom a letter goes to, or comes from
  std::byte* all = nullptr;                 // of all_gather: size() * elements
  // Of an all_reduce: rank r may get the sums of its own stripes alone, where that is less to do; then it is told of
  // them, part by part.
  Stripes stripes{};
  Summed summed{};
};
inline bool is_letter(const Ask& a) { return a.operation == Operation::send || a.operation == Operation::recv; }

// The ranks of a collective must make the same call in the same context, with as many elements of the same size; else
// every one of them throws the same ValueError.
class Communicator {
 public:
  Communicator();
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual void perform(const Ask& ask, const Merge& merge = nullptr) = 0;
  // The same beside other work: returns at once, with a ticket. Started collectives run one after the other, in their
  // order; those that wait overtake them. All ranks start the same ones, in the same order among all their calls.
  // Letters to one rank go, and those from one rank are taken, in the order of the calls, whichever form these have: a
  // send or recv that waits does so for the started ones of the same peer too. Nothing else waits for letters. What the
  // call works on stays and is not touched until finish() of the ticket returns or is_finished(); `keep` is held until
  // then.
  virtual uint64_t start(const Ask& ask, Merge merge = nullptr, std::shared_ptr<void> keep = nullptr) = 0;
  // Goes on with what was started as far as that needs no waiting; whether all of it is done. Throws as finish(), but
  // has no limit.
  virtual bool poll() = 0;
  // Waits for the started call, and for those before it that it must follow; without a ticket for all. By the rules of
  // the others. Throws the first error of any of them.
  virtual void finish(uint64_t ticket = ~uint64_t(0)) = 0;
  virtual bool is_finished(uint64_t ticket) const = 0;

  void barrier() { perform({Operation::barrier}); }
  // Every rank ends with the same bits.
  void all_reduce(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) {
    perform({Operation::all_reduce, data, elements, element_bytes}, merge);
  }
  // Rank r keeps its even share.
  void reduce_scatter(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) {
    perform({Operation::reduce_scatter, data, elements, element_bytes}, merge);
  }
  void all_gather(const std::byte* mine, int64_t elements, int64_t element_bytes, std::byte* all) {
    perform({Operation::all_gather, const_cast<std::byte*>(mine), elements, element_bytes, 0, all});
  }
  void broadcast(std::byte* data, int64_t elements, int64_t element_bytes, int root) {
    perform({Operation::broadcast, data, elements, element_bytes, root});
  }
  virtual std::shared_ptr<Communicator> split(int color, int key) = 0;
  virtual void leave() = 0;  // this rank makes no further call: what others would wait for in vain throws Lost
  virtual void abort(const std::string& why) = 0;  // every rank's next or present call throws Lost(why), in all groups
  virtual double seconds_waiting() const = 0;      // spent so far in collectives until the last rank arrived
  // The same by the rank that came last (of this group; none beyond the end): each wait is a difference of this rank's
  // own clock, and who came last is told by the order of coming, so clocks of different ranks are never compared.
  std::span<const double> waited_for() const { return waited_for_; }
  // Zeroed memory that the others see, so that collectives on it copy nothing; null where there is none.
  virtual std::shared_ptr<std::byte> take(int64_t) { return nullptr; }
  // Where each rank's memory lies in this process, this rank's being `mine`; empty where they don't see all of it. A
  // collective.
  virtual std::vector<std::byte*> see(std::byte*, int64_t) { return {}; }
  virtual std::vector<std::string> flight() const { return {}; }  // the last collectives, as lines, the newest last

  // Payload of this rank that went to others so far, copies counted; letters to itself are not.
  int64_t bytes_sent() const { return bytes_sent_; }
  void count_sent(int64_t bytes) { bytes_sent_ += bytes; }  // that others read beside collectives

  // How a training step exchanges gradients: in calls that wait (off), or in started ones, with which this rank's
  // thread goes on between two nodes, or a thread of their own (ranks of one memory have none: the exchange is work of
  // the ranks' cores). THALWEG_OVERLAP names one; without it the kind of ranks decides.
  enum class Overlap : uint8_t { off, nodes, thread };
  Overlap overlap() const { return overlap_; }
  virtual void set_overlap(Overlap overlap) { overlap_ = overlap; }

  void at(int64_t update, int64_t rows) {
    context_.update = update;
    context_.rows = rows;
  }
  void enter(const std::string& call) {
    context_.inside = {};
    call.copy(context_.inside.data(), context_.inside.size() - 1);
  }
  std::string inside() const { return context_.inside.data(); }
  // The longest that a call may wait for ranks of other processes, in seconds; then every rank throws Lost.
  void limit_waits(double seconds) { limit_ = seconds; }
  double limit() const { return limit_; }
  // Called about every 50 ms while ranks of other processes are waited for; what it throws ends the wait.
  void on_wait(std::function<void()> poll) { poll_ = std::move(poll); }

 protected:
  void note_wait(int last, double seconds) {
    if (size_t(last) >= waited_for_.size()) waited_for_.resize(size_t(last) + 1);
    waited_for_[size_t(last)] += seconds;
  }
  void count_letter(int64_t bytes, int to) { bytes_sent_ += to == rank() ? 0 : bytes; }

  Context context_;
  int64_t bytes_sent_ = 0;
  Overlap overlap_ = Overlap::nodes;
  bool overlap_is_given_ = false;
  double limit_ = 60;
  std::function<void()> poll_ = [] {};

 private:
  std::vector<double> waited_for_;
};

const char* name(Communicator::Overlap overlap);
Communicator::Overlap parse_overlap(const std::string& name);  // ValueError for what is none

std::shared_ptr<Communicator> make_self();
std::vector<std::shared_ptr<Communicator>> make_threads(int size);  // one for each rank, used from its own thread

// Rank r's even share of n elements is [share(n, r, size), share(n, r + 1, size)).
inline int64_t share(int64_t n, int r, int size) { return n * r / size; }

}  // namespace thalweg
