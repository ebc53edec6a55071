// threads.cpp: ranks that are threads of this process: each shows its buffer itself. Once the ranks of a call that
// waits have met, each stays until all have read, whatever fails elsewhere; what a started call works on is kept by the
// group: no buffer goes away under a reader.
#include <atomic>
#include <chrono>
#include <deque>
#include <limits>
#include <map>
#include <thread>

#include "../tensor/error.h"
#include "visible.h"
#include "world.h"

namespace thalweg {
namespace {

using Clock = std::chrono::steady_clock;

// Letters from one rank to another that nobody has taken, and where the next one is expected.
struct Box {
  std::deque<Letter> letters;
  std::atomic<int64_t> count{0};
  const Call* expected = nullptr;
  std::byte* place = nullptr;
  std::atomic<bool> fills{false};  // the sender writes there
};

struct Shown {
  std::byte* data = nullptr;
  std::shared_ptr<void> keep;
};

// The meetings of one lane, and what each rank shows in it.
struct Meetings {
  std::atomic<uint64_t> generation{0};
  int arrived = 0;
  int last = 0;                // who came last to the newest meeting: it stays until all have come to the next
  std::vector<Call> calls[2];  // by parity
  std::vector<Shown> shown;
  std::vector<std::vector<std::byte>> small[2];
};

struct Group {
  Group(std::shared_ptr<World> world, std::vector<int> members) : world(std::move(world)), members(std::move(members)) {
    for (Meetings& lane : lanes) {
      lane.shown.resize(this->members.size());
      for (int parity : {0, 1}) {
        lane.calls[parity].resize(this->members.size());
        lane.small[parity].resize(this->members.size());
      }
    }
  }
  int size() const { return int(members.size()); }

  const std::shared_ptr<World> world;
  const std::vector<int> members;  // their ranks in the world
  Meetings lanes[kLanes];
  std::map<std::pair<int, int>, Box> mail;  // by sender and receiver
  std::map<int, std::shared_ptr<Group>> children;
};

struct ForMeeting final : Wait {
  ForMeeting(const Group& group, int lane, uint64_t seen, const Call& call, const Beside& beside)
      : group(group), lane(lane), seen(seen), call(call), beside(beside) {}
  bool came() const { return group.lanes[lane].generation.load(std::memory_order_acquire) != seen; }
  bool ready() const override { return came() || beside.can_go_on(); }
  int absent() const override {
    for (int r : group.members)
      if (group.world->has_left(r)) return r;
    return -1;
  }
  std::string what() const override { return call.describe(); }
  const Group& group;
  const int lane;
  const uint64_t seen;
  const Call& call;
  const Beside& beside;
};

struct ForLetter final : Wait {
  ForLetter(const Group& group, const Box& box, int from, const Call& call, const Beside& beside)
      : group(group), box(box), from(from), call(call), beside(beside) {}
  bool ready() const override { return box.count > 0 || beside.can_go_on(); }
  int absent() const override { return group.world->has_left(group.members[from]) ? group.members[from] : -1; }
  std::string what() const override { return call.describe(); }
  const Group& group;
  const Box& box;
  const int from;
  const Call& call;
  const Beside& beside;
};

class Threads final : public Visible {
 public:
  Threads(std::shared_ptr<Group> group, int rank, std::shared_ptr<Beside> beside)
      : Visible(std::move(beside)), group_(std::move(group)), rank_(rank), boxes_(size_t(group_->size())) {}
  ~Threads() override { started_.drop(); }
  int rank() const override { return rank_; }
  int size() const override { return group_->size(); }
  double seconds_waiting() const override { return waiting_; }

  void abort(const std::string& why) override {
    std::lock_guard lock(world().mutex);
    world().end(why);
  }

 protected:
  Call& call(int lane, int parity, int r) override { return lanes(lane).calls[parity][size_t(r)]; }
  std::byte* small(int lane, int parity, int r) override {
    std::vector<std::byte>& bytes = lanes(lane).small[parity][size_t(r)];
    if (bytes.empty() && r == rank_) bytes.resize(size_t(kSmallBytes));
    return bytes.data();
  }
  int member(int rank) const override { return group_->members[size_t(rank)]; }
  void show(int lane, const std::byte* data, int64_t, int64_t, const std::shared_ptr<void>& keep, int64_t,
            int64_t) override {
    lanes(lane).shown[size_t(rank_)] = {const_cast<std::byte*>(data), keep};
  }
  std::byte* shown(int lane, int r, int64_t) const override { return lanes(lane).shown[size_t(r)].data; }
  std::byte* own(int lane, int64_t) override { return lanes(lane).shown[size_t(rank_)].data; }
  bool sees(const std::byte*, int64_t) const override { return true; }
  int64_t place_of(const std::byte* mine) const override { return reinterpret_cast<int64_t>(mine); }
  std::byte* at_place(int64_t place) const override { return reinterpret_cast<std::byte*>(place); }
  int64_t window() const override { return std::numeric_limits<int64_t>::max(); }
  // Right to where it is expected, or copied.
  Going send_letter(Call c, const std::byte* data, int to) override {
    std::unique_lock lock(world().mutex);
    world().check();
    Box& box = group_->mail[{rank_, to}];
    Letter letter{c.bytes(), c.element_bytes, nullptr};
    box.fills = box.letters.empty() && box.expected && letter.fits(*box.expected);
    lock.unlock();
    if (!box.fills) letter.data = std::make_unique_for_overwrite<std::byte[]>(size_t(c.bytes()));
    if (c.bytes()) std::memcpy(box.fills ? box.place : letter.data.get(), data, size_t(c.bytes()));
    lock.lock();
    box.fills = false;
    box.letters.push_back(std::move(letter));
    box.count++;
    world().changed();
    co_return;
  }
  void expect_letter(const Call& c, std::byte* data, int from) override {
    Box& letters = box(from);
    std::unique_lock lock(world().mutex);
    while (letters.fills) {
      lock.unlock();
      std::this_thread::yield();
      lock.lock();
    }
    letters.expected = data ? &c : nullptr;
    letters.place = data;
  }
  bool has_letter(int from) override { return box(from).count > 0; }
  void wait_for_letter(const Call& c, int from) override {
    const Box& letters = box(from);
    for (int spin = 0; spin < kSpins && letters.count == 0; spin++) relax(spin);
    while (letters.count == 0) {
      {
        std::unique_lock lock(world().mutex);
        world().wait(lock, member(rank_), ForLetter(*group_, letters, from, c, beside()));
      }
      beside().progress();
    }
  }
  void look_for_letter(const Call& c, int from) override {
    const Box& letters = box(from);
    const std::lock_guard lock(world().mutex);
    world().look(member(rank_), ForLetter(*group_, letters, from, c, beside()));
  }
  Letter take_letter(int from) override {
    Box& letters = box(from);
    const std::lock_guard lock(world().mutex);
    Letter first = std::move(letters.letters.front());
    letters.letters.pop_front();
    letters.count--;
    letters.expected = nullptr;  // the next one must not go where this one lies
    return first;
  }
  void return_letter(int from, Letter letter) override {
    Box& letters = box(from);
    const std::lock_guard lock(world().mutex);
    letters.letters.push_front(std::move(letter));
    letters.count++;
  }
  void left() override {
    std::lock_guard lock(world().mutex);
    world().leave(member(rank_));
  }

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
    meet();
    if (rank_ == 0) group_->children.clear();
    meet();
    return std::make_shared<Threads>(child, me, started_.beside());
  }

  uint64_t come(int lane, bool opens) override {
    std::lock_guard lock(world().mutex);
    if (opens) world().check();
    Meetings& m = lanes(lane);
    const uint64_t seen = m.generation.load(std::memory_order_relaxed);
    if (++m.arrived == size()) {
      m.arrived = 0;
      m.last = rank_;
      m.generation.fetch_add(1, std::memory_order_release);
      world().changed();
    }
    return seen;
  }
  bool came(int lane, uint64_t seen) const override {
    return lanes(lane).generation.load(std::memory_order_acquire) != seen;
  }
  int last(int lane) const override { return lanes(lane).last; }
  void look_for(int lane, uint64_t seen) override {
    const std::lock_guard lock(world().mutex);
    world().look(member(rank_), ForMeeting(*group_, lane, seen, called(lane), beside()));
  }
  void withdraw(int lane, uint64_t seen) override {
    std::lock_guard lock(world().mutex);
    if (!came(lane, seen)) lanes(lane).arrived--;
  }
  void wait_until_came(int lane, uint64_t seen, bool opens) override {
    const auto start = Clock::now();
    for (int spin = 0; spin < kSpins && !came(lane, seen); spin++) relax(spin);
    while (!came(lane, seen)) {
      sleep_past(lane, seen, opens);
      beside().progress();
    }
    const double waited = std::chrono::duration<double>(Clock::now() - start).count();
    waiting_ += waited;
    note_wait(lanes(lane).last, waited);
  }

 private:
  World& world() const { return *group_->world; }
  Beside& beside() const { return *started_.beside(); }
  Meetings& lanes(int lane) const { return group_->lanes[lane]; }
  static constexpr int kSpins = 4000;
  void relax(int spin) const {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
    if (spin % 64 == 63) beside().progress();
  }
  Box& box(int from) {
    Box*& found = boxes_[size_t(from)];
    if (!found) {
      const std::lock_guard lock(world().mutex);
      found = &group_->mail[{from, rank_}];
    }
    return *found;
  }
  void sleep_past(int lane, uint64_t seen, bool opens) {
    const bool sure = lane == 0 && !opens;
    const ForMeeting meeting(*group_, lane, seen, called(lane), beside());
    std::unique_lock lock(world().mutex);
    if (sure) world().sleep_until(lock, [&] { return meeting.ready(); });
    else world().wait(lock, member(rank_), meeting);
  }

  std::shared_ptr<Group> group_;
  const int rank_;
  std::vector<Box*> boxes_;  // by sender: of letters to this rank, once it has looked
  double waiting_ = 0;
};

}  // namespace

std::vector<std::shared_ptr<Communicator>> make_threads(int size) {
  std::vector<int> members(size);
  for (int r = 0; r < size; r++) members[r] = r;
  auto group = std::make_shared<Group>(std::make_shared<World>(size), std::move(members));
  std::vector<std::shared_ptr<Communicator>> all;
  for (int r = 0; r < size; r++) all.push_back(std::make_shared<Threads>(group, r, std::make_shared<Beside>()));
  return all;
}

}  // namespace thalweg
