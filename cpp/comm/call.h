// call.h: what a rank asks for in a collective, in a form that processes can exchange, and how ranks that ask for
// different things are told.
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../tensor/error.h"
#include "communicator.h"

namespace thalweg {

inline constexpr int kLanes = 2;                  // of calls that wait, and of those that were started
inline constexpr int64_t kSmallBytes = 16 << 10;  // up to here every rank folds the whole payload by itself
inline constexpr int64_t kInlineBytes = 512;      // of data that go along with the call in a message

// The calls of ranks differ. Every one of them has found the same.
struct Disagreement : ValueError {
  using ValueError::ValueError;
};

struct Call {
  explicit Call(Operation operation = Operation::barrier, int64_t elements = 0, int64_t element_bytes = 0, int root = 0)
      : operation(operation), root(root), elements(elements), element_bytes(element_bytes) {}

  Operation operation;
  int32_t root;  // of a broadcast; of a letter the other rank's name
  int64_t elements, element_bytes;
  Context context;
  int32_t started = 0;         // whether it is the form that is finished later
  int32_t in_place = 0;        // whether the others see the data where they are
  int64_t whole = 0;           // of the call of all nodes that this is a part of: its elements
  int32_t whole_root = 0;      // and its root
  int32_t last = -1;           // who came last, of those for whom this rank speaks
  int32_t color = 0, key = 0;  // of a split: with `last` the only part in which ranks may differ

  bool agrees(const Call& o) const {
    return operation == o.operation && started == o.started && elements == o.elements &&
           element_bytes == o.element_bytes && root == o.root && in_place == o.in_place && context == o.context &&
           whole == o.whole && whole_root == o.whole_root;
  }
  int64_t bytes() const { return elements * element_bytes; }
  std::string name() const;
  std::string describe(bool with_context = true) const;
};

struct Letter {
  int64_t bytes, element_bytes;
  std::unique_ptr<std::byte[]> data;  // null: it lies already where it was expected
  bool fits(const Call& c) const { return bytes == c.bytes() && element_bytes == c.element_bytes; }
};
void check_letter(const Letter& letter, const Call& call, int rank);  // ValueError: not what rank `rank` calls recv for

// What rank r sends in a sum of shares: everybody's share to its owner, then its own to all; 2 (P - 1) / P of all bytes
// where the ranks share them evenly. scattered: it ends halfway.
int64_t bytes_reduced(const Call& call, int r, int size, bool scattered);

// The last collectives of one rank: what it called, when, and how long it waited for the others to come.
class Flight {
 public:
  uint64_t begins(const Call& call);  // returns its number
  void all_came(uint64_t event);
  std::vector<std::string> lines() const { return lines({{this, ""}}); }
  // Of several, by time; each with its name.
  static std::vector<std::string> lines(const std::vector<std::pair<const Flight*, const char*>>& flights);

 private:
  struct Event {
    Call call;
    double at = 0, waited = -1;  // seconds; not all came
  };
  static constexpr uint64_t kKept = 64;
  std::array<Event, kKept> events_;
  uint64_t count_ = 0;
};

// What `size` ranks don't agree on, the same text on each of them; empty where they agree. member: a rank's name.
std::string disagreement(int size, const std::function<const Call&(int rank)>& call,
                         const std::function<int(int rank)>& member);

}  // namespace thalweg
