// node_memory.h: memory that the processes of one node share, and all that their ranks keep in it: who is there, who
// waits for what, what ended them all, a desk of each rank for its data, a stream of bytes between every two of them.
// The memory has no name (memfd): nothing is left anywhere however the processes end. Each rank holds a lock on one
// byte of it, which the kernel drops when its process ends: that is how the others learn of a kill. What lies elsewhere
// in a rank's process can be lent: the others read it there, by the kernel, where that lets all of them.
#pragma once
#include <atomic>
#include <memory>
#include <string>

#include "call.h"

namespace thalweg {

inline constexpr int kMostProcesses = 256;          // ranks of one memory
inline constexpr int64_t kWindowBytes = 256 << 10;  // of a rank's data that the others see at a time; two of each lane
inline constexpr int64_t kHeapBytes = 16ll << 30;   // of a rank's own that all see; pages are there once written to
inline constexpr int64_t kStreamBytes = 256 << 10;  // on their way between two ranks
inline constexpr int kGroups = 4096;                // in use at a time

static_assert(std::atomic<uint32_t>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free);

enum class Presence : uint32_t { expected, joined, left };

enum : uint32_t { kAwake, kLooking, kAsleep };  // looking: whether what it waits for is ready

enum class Reads : uint32_t { unknown, no, yes };  // what others lend

struct alignas(128) RankRecord {
  std::atomic<Presence> presence;
  std::atomic<int32_t> pid;
  std::atomic<uint32_t> asleep, bell, heard;  // bell: rung when something changed; heard: before its last look
  std::atomic<Reads> reads;
  const std::byte* base;  // where it has this memory
  const uint64_t* token;  // in its process: who reads it there finds `value`
  uint64_t value;
  std::atomic<int64_t> since;  // nanoseconds of the steady clock: when it came to its last call
  Call call;                   // that one
  int64_t desk;                // of a group that is being made
  int32_t group;               // the same group's number, of the first of its ranks
  char what[192];              // it waits in
};

struct alignas(128) GroupRecord {
  std::atomic<int32_t> holders;
  std::atomic<uint32_t> epoch;  // how many groups have had this record
  struct alignas(128) Lane {
    std::atomic<uint32_t> arrived, generation;
    std::atomic<int32_t> last;  // who came last to the newest meeting: it stays until all have come to the next
  } lanes[kLanes];
};

// What a rank shows the others of one group.
struct alignas(4096) Desk {
  struct alignas(128) Lane {
    std::atomic<uint32_t> meeting;  // that it came to last, plus 1
    int64_t place;                  // where the data are that it shows in place; -1: lent, or in its windows
    const std::byte* lent;          // where they are in its process; null: in its windows
    Call calls[2];
  } lanes[kLanes];
  std::byte small[kLanes][2][kSmallBytes];
  std::byte windows[kLanes][2][kWindowBytes];
};

struct alignas(128) Stream {
  std::atomic<uint64_t> written;
  alignas(128) std::atomic<uint64_t> read;
  alignas(
      128) std::atomic<const std::byte*> lent;  // the rest of the letter under way, until it is taken; null: follows
  alignas(128) std::byte data[kStreamBytes];
};

struct alignas(128) Head {
  std::atomic<uint32_t> ended;  // 0 no, 1 `why` is being written, 2 yes
  char why[1024];
};

class NodeMemory {
 public:
  // Makes the memory of `size` ranks (Linux; ValueError, std::system_error), or takes that of a file descriptor, which
  // it closes at the end: then the locks of this process are gone too. first: the name of its rank 0, where there are
  // other nodes; the ranks after it have the names after that.
  static std::shared_ptr<NodeMemory> create(int size, int first = 0);
  static std::shared_ptr<NodeMemory> open(int fd, int size, int first = 0);
  ~NodeMemory();

  int fd() const { return fd_; }
  int size() const { return size_; }
  int name(int r) const { return first_ + r; }  // in messages
  Head& head() const { return *reinterpret_cast<Head*>(base_); }
  RankRecord& rank(int r) const;
  GroupRecord& group(int g) const;
  Stream& stream(int from, int to) const;
  Desk& desk(int64_t place) const { return *reinterpret_cast<Desk*>(at(place)); }
  int64_t first_desk(int r) const;  // where that of the group of all ranks is
  std::byte* heap(int r) const;
  std::byte* at(int64_t place) const { return base_ + place; }
  int64_t place_of(const std::byte* p) const { return p - base_; }
  void drop(int64_t place, int64_t bytes);  // its pages; it reads as zeros then

  void lock(int r);  // this process is rank r
  // Copies what rank r lends; false where the kernel refuses it, or that process is gone.
  bool read(int r, const std::byte* lent, std::byte* to, int64_t bytes) const;
  bool is_alive(int r) const;        // whether the process of a rank that has joined still runs
  void end(const std::string& why);  // the first reason stays
  bool has_ended() const { return head().ended.load(std::memory_order_acquire) != 0; }
  std::string why() const;
  // Wakes rank r if it sleeps, after a change that it may wait for.
  void ring(int r);
  void ring_all();
  void sleep(int r, uint32_t heard, double seconds);  // until the bell of r differs from `heard`

 private:
  NodeMemory(int fd, int size, int first);
  int fd_, size_, first_;
  std::byte* base_ = nullptr;
  int64_t bytes_;
};

}  // namespace thalweg
