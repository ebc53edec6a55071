// threads.cpp: ranks that are threads of this process: each shows its buffer itself. Once the ranks of a collective
// have met, each stays until all have read, whatever fails elsewhere: no buffer goes away under a reader.
#include <atomic>
#include <chrono>
#include <deque>
#include <limits>
#include <map>

#include "../tensor/error.h"
#include "visible.h"
#include "world.h"

namespace thalweg {
namespace {

using Clock = std::chrono::steady_clock;

struct Letter {
  std::vector<std::byte> data;
  int64_t element_bytes;
};

struct Group {
  Group(std::shared_ptr<World> world, std::vector<int> members)
      : world(std::move(world)),
        members(std::move(members)),
        calls(this->members.size()),
        shown(this->members.size()) {}
  int size() const { return int(members.size()); }

  const std::shared_ptr<World> world;
  const std::vector<int> members;  // their ranks in the world
  std::vector<Call> calls;         // of each rank
  std::vector<std::byte*> shown;   // by each rank
  std::atomic<uint64_t> generation{0};
  int arrived = 0;
  int last = 0;  // who came last to the newest meeting: it stays until all have come to the next
  std::map<std::pair<int, int>, std::deque<Letter>> mail;
  std::map<int, std::shared_ptr<Group>> children;
};

struct ForMeeting final : Wait {
  ForMeeting(const Group& group, int rank, uint64_t seen) : group(group), rank(rank), seen(seen) {}
  bool ready() const override { return group.generation.load(std::memory_order_relaxed) != seen; }
  int absent() const override {
    for (int r : group.members)
      if (group.world->has_left(r)) return r;
    return -1;
  }
  std::string what() const override { return group.calls[rank].describe(); }
  const Group& group;
  const int rank;
  const uint64_t seen;
};

struct ForMail final : Wait {
  ForMail(const Group& group, const std::deque<Letter>& box, int from) : group(group), box(box), from(from) {}
  bool ready() const override { return !box.empty(); }
  int absent() const override { return group.world->has_left(group.members[from]) ? group.members[from] : -1; }
  std::string what() const override { return text("recv from rank ", group.members[from]); }
  const Group& group;
  const std::deque<Letter>& box;
  const int from;
};

class Threads final : public Visible {
 public:
  Threads(std::shared_ptr<Group> group, int rank) : group_(std::move(group)), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return group_->size(); }
  double seconds_waiting() const override { return waiting_; }

  void send(const std::byte* data, int64_t elements, int64_t element_bytes, int to) override {
    Letter letter{{data, data + elements * element_bytes}, element_bytes};
    std::lock_guard lock(world().mutex);
    world().check();
    group_->mail[{rank_, to}].push_back(std::move(letter));
    world().changed();
  }

  void recv(std::byte* data, int64_t elements, int64_t element_bytes, int from) override {
    std::unique_lock lock(world().mutex);
    auto& box = group_->mail[{from, rank_}];
    world().wait(lock, member(rank_), ForMail(*group_, box, from));
    const Letter& letter = box.front();
    const int64_t bytes = int64_t(letter.data.size());
    if (bytes != elements * element_bytes || letter.element_bytes != element_bytes)
      fail("[recv] rank ", member(rank_), " expects ", elements, " x ", element_bytes, " bytes from rank ",
           member(from), ", which sent ", bytes / letter.element_bytes, " x ", letter.element_bytes, " bytes");
    if (bytes) std::memcpy(data, letter.data.data(), bytes);
    box.pop_front();
  }

  void leave() override {
    std::lock_guard lock(world().mutex);
    world().leave(member(rank_));
  }

  void abort(const std::string& why) override {
    std::lock_guard lock(world().mutex);
    world().end(why);
  }

 protected:
  Call& call(int r) override { return group_->calls[size_t(r)]; }
  int member(int rank) const override { return group_->members[size_t(rank)]; }
  void show(const std::byte* data, int64_t, int64_t) override {
    group_->shown[size_t(rank_)] = const_cast<std::byte*>(data);
  }
  const std::byte* shown(int r, int64_t) const override { return group_->shown[size_t(r)]; }
  std::byte* own(int64_t) override { return group_->shown[size_t(rank_)]; }
  bool sees(const std::byte*, int64_t) const override { return true; }
  int64_t window() const override { return std::numeric_limits<int64_t>::max(); }

  std::shared_ptr<Communicator> join(int color, const std::vector<int>& ranks, int me) override {
    std::shared_ptr<Group> child;
    {
      std::lock_guard lock(world().mutex);
      auto& made = group_->children[color];
      if (!made) {
        std::vector<int> members;
        for (int r : ranks) members.push_back(member(r));
        made = std::make_shared<Group>(group_->world, std::move(members));
      }
      child = made;
    }
    meet(false);
    if (rank_ == 0) group_->children.clear();
    meet(false);
    return std::make_shared<Threads>(child, me);
  }

  void meet(bool lost) override {
    const auto start = Clock::now();
    Group& g = *group_;
    uint64_t seen;
    {
      std::lock_guard lock(world().mutex);
      if (lost) world().check();
      seen = g.generation.load(std::memory_order_relaxed);
      if (++g.arrived == g.size()) {
        g.arrived = 0;
        g.last = rank_;
        g.generation.fetch_add(1, std::memory_order_release);
        world().changed();
        return;
      }
    }
    for (int spin = 0; spin < 4000 && g.generation.load(std::memory_order_acquire) == seen; spin++) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    if (g.generation.load(std::memory_order_acquire) == seen) sleep_past(seen, lost);
    const double waited = std::chrono::duration<double>(Clock::now() - start).count();
    waiting_ += waited;
    note_wait(g.last, waited);
  }

 private:
  World& world() const { return *group_->world; }
  void sleep_past(uint64_t seen, bool lost) {
    const ForMeeting meeting(*group_, rank_, seen);
    std::unique_lock lock(world().mutex);
    if (!lost) return world().sleep_until(lock, [&] { return meeting.ready(); });
    try {
      world().wait(lock, member(rank_), meeting);
    } catch (...) {
      group_->arrived--;
      throw;
    }
  }

  std::shared_ptr<Group> group_;
  const int rank_;
  double waiting_ = 0;
};

}  // namespace

std::vector<std::shared_ptr<Communicator>> make_threads(int size) {
  std::vector<int> members(size);
  for (int r = 0; r < size; r++) members[r] = r;
  auto group = std::make_shared<Group>(std::make_shared<World>(size), std::move(members));
  std::vector<std::shared_ptr<Communicator>> all;
  for (int r = 0; r < size; r++) all.push_back(std::make_shared<Threads>(group, r));
  return all;
}

}  // namespace thalweg
