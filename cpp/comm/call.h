// call.h: what a rank asks for in a collective, in a form that processes can exchange, and how ranks that ask for
// different things are told.
#pragma once
#include <array>
#include <functional>
#include <string>
#include <vector>

#include "communicator.h"

namespace thalweg {

inline constexpr int kLanes = 2;                  // of calls that wait, and of those that were started
inline constexpr int64_t kSmallBytes = 16 << 10;  // up to here every rank folds the whole payload by itself

enum class Operation : int32_t { barrier, all_reduce, start_all_reduce, reduce_scatter, all_gather, broadcast, split };

struct Call {
  explicit Call(Operation operation = Operation::barrier, int64_t elements = 0, int64_t element_bytes = 0, int root = 0)
      : operation(operation), root(root), elements(elements), element_bytes(element_bytes) {}

  Operation operation;
  int32_t root;
  int64_t elements, element_bytes;
  Context context;
  int32_t in_place = 0;        // whether the others see the data where they are
  int32_t color = 0, key = 0;  // of a split: the only part in which ranks may differ

  bool agrees(const Call& o) const {
    return operation == o.operation && elements == o.elements && element_bytes == o.element_bytes && root == o.root &&
           in_place == o.in_place && context == o.context;
  }
  std::string describe(bool with_context = true) const;
};

const char* name(Operation operation);
// What rank r sends in a sum of shares: everybody's share to its owner, then its own to all; 2 (P - 1) / P of all bytes
// where the ranks share them evenly. A reduce_scatter ends halfway.
int64_t bytes_reduced(const Call& call, int r, int size);

// The last collectives of one rank: what it called, when, and how long it waited for the others to come.
class Flight {
 public:
  uint64_t begins(const Call& call);  // returns its number
  void all_came(uint64_t event);
  std::vector<std::string> lines() const;

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
