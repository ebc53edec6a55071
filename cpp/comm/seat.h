// seat.h: what one rank does in the memory of a node, whatever group it acts in: it comes and goes, sleeps until
// something is ready, and takes in the letters that others write to it meanwhile. A wait that can't end throws Lost: a
// rank's process ended or left, all ranks wait for one another, the limit is over, or somebody ended them all.
#pragma once
#include <chrono>
#include <map>
#include <vector>

#include "letters.h"

namespace thalweg {

class Seat {
 public:
  // What a rank waits for: see World's Wait (world.h).
  struct Wait {
    std::function<bool()> ready;
    std::function<int()> absent;                // a rank that has left without which it can't become ready; -1: none
    std::function<std::vector<int>()> missing;  // the ranks that haven't done their part
    std::string what;
    double limit;  // seconds
    const std::function<void()>* poll;
    bool naps = false;  // it may become ready without a bell: by a message
  };

  Seat(std::shared_ptr<NodeMemory> memory, int rank)
      : memory_(std::move(memory)),
        rank_(rank),
        token_(uint64_t(std::chrono::steady_clock::now().time_since_epoch().count()) << 8 | uint64_t(rank)),
        free_{{memory_->place_of(memory_->heap(rank)), kHeapBytes}},
        letters_(memory_, rank) {}
  void join(double limit, const std::function<void()>& poll);  // until all ranks have come
  bool all_read() const { return all_read_; }                  // whether every rank reads what others lend
  void leave();

  int rank() const { return rank_; }
  NodeMemory& memory() const { return *memory_; }
  RankRecord& record() const { return memory_->rank(rank_); }
  bool has_left(int r) const { return memory_->rank(r).presence.load(std::memory_order_acquire) == Presence::left; }
  void check() const;                          // throws Lost where the ranks were ended
  void check_others(const std::string& what);  // the same, and where the process of one is gone
  void wait(const Wait& w);
  void look(const Wait& w, double waited);  // throws Lost where it can't become ready, or has lasted too long
  Letters& letters() { return letters_; }
  // Part of this rank's heap, zeroed; -1 where it is used up.
  int64_t take(int64_t bytes);
  void give_back(int64_t place, int64_t bytes);
  void give_back_after(int group, uint32_t epoch, int64_t place, int64_t bytes);  // once no rank holds that group

 private:
  int name() const { return memory_->name(rank_); }
  void check_alive(const std::string& what);
  bool reads_all() const;
  void wait_for_all(const std::function<bool(const RankRecord&)>& has, double limit, const std::function<void()>& poll);
  bool nobody_can_go_on() const;
  std::string who_waits() const;
  std::string out_of_time(const Wait& w, double waited) const;

  std::shared_ptr<NodeMemory> memory_;
  const int rank_;
  const uint64_t token_;
  bool all_read_ = false;
  struct Later {
    int group;
    uint32_t epoch;
    int64_t place, bytes;
  };
  std::map<int64_t, int64_t> free_;  // parts of the heap: place, bytes
  std::vector<Later> later_;         // others may still read
  Letters letters_;
};

}  // namespace thalweg
