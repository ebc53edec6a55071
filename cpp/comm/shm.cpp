// shm.cpp: ranks that are processes of one node: each copies its data into a window that the others see.
#include "shm.h"

#include <chrono>
#include <thread>

#include "../tensor/error.h"
#include "seat.h"
#include "visible.h"

namespace thalweg {
namespace {

using Clock = std::chrono::steady_clock;

// A group's record in the memory, given back when the last of its ranks has dropped it.
class Membership {
 public:
  Membership(std::shared_ptr<Seat> seat, int group, std::vector<int> members)
      : seat(std::move(seat)), group(group), members(std::move(members)) {}
  ~Membership() { record().holders.fetch_sub(1); }
  GroupRecord& record() const { return seat->memory().group(group); }

  const std::shared_ptr<Seat> seat;
  const int group;
  const std::vector<int> members;  // their ranks in the memory
};

class Shm final : public Visible {
 public:
  Shm(std::shared_ptr<Membership> group, int rank, int spins)
      : group_(std::move(group)), seat_(*group_->seat), memory_(seat_.memory()), rank_(rank), spins_(spins) {}
  int rank() const override { return rank_; }
  int size() const override { return int(group_->members.size()); }
  double seconds_waiting() const override { return waiting_; }

  void send(const std::byte* data, int64_t elements, int64_t element_bytes, int to) override {
    const int peer = member(to);
    Stream& s = memory_.stream(seat_.rank(), peer);
    const auto room = [&s] { return s.written.load() - s.read.load() < uint64_t(kStreamBytes); };
    seat_.send(group_->group, data, elements * element_bytes, element_bytes, peer,
               wait_for(room, peer, text("send to rank ", peer)));
  }

  void recv(std::byte* data, int64_t elements, int64_t element_bytes, int from) override {
    const int peer = member(from);
    std::deque<Letter>& box = seat_.box(group_->group, peer);
    seat_.take_in();
    if (box.empty()) {
      seat_.check();
      seat_.wait(wait_for([&box] { return !box.empty(); }, peer, text("recv from rank ", peer)));
    }
    const int64_t bytes = int64_t(box.front().data.size());
    if (bytes != elements * element_bytes || box.front().element_bytes != element_bytes)
      fail("[recv] rank ", seat_.rank(), " expects ", elements, " x ", element_bytes, " bytes from rank ", peer,
           ", which sent ", bytes / box.front().element_bytes, " x ", box.front().element_bytes, " bytes");
    if (bytes) std::memcpy(data, box.front().data.data(), size_t(bytes));
    box.pop_front();
  }

  std::shared_ptr<std::byte> take(int64_t bytes) override {
    constexpr int64_t kPage = 2 << 20;
    bytes = (std::max<int64_t>(1, bytes) + kPage - 1) / kPage * kPage;
    const int64_t place = seat_.take(bytes);
    if (place < 0) return nullptr;
    return {memory_.at(place), [seat = group_->seat, place, bytes](std::byte*) { seat->give_back(place, bytes); }};
  }
  void leave() override { seat_.leave(); }
  void abort(const std::string& why) override { memory_.end(why); }

 protected:
  Call& call(int r) override { return memory_.rank(member(r)).call; }
  int member(int r) const override { return group_->members[size_t(r)]; }
  void show(const std::byte* data, int64_t bytes, int64_t piece) override {
    const bool in_place = sees(data, bytes);
    seat_.record().place = in_place ? memory_.place_of(data) : -1;
    if (bytes && !in_place) std::memcpy(own(piece), data, size_t(bytes));
  }
  const std::byte* shown(int r, int64_t piece) const override { return part_of(member(r), piece); }
  std::byte* own(int64_t piece) override { return part_of(seat_.rank(), piece); }
  bool sees(const std::byte* data, int64_t bytes) const override {
    const std::byte* heap = memory_.heap(seat_.rank());
    return data >= heap && data + bytes <= heap + kHeapBytes;
  }
  int64_t window() const override { return kWindowBytes; }

  void meet(bool opens) override {
    if (opens) seat_.check();
    const auto start = Clock::now();
    GroupRecord& g = group_->record();
    RankRecord& me = seat_.record();
    const uint32_t seen = g.generation.load(std::memory_order_relaxed);
    me.group.store(uint32_t(group_->group), std::memory_order_relaxed);
    me.meeting.store(seen, std::memory_order_relaxed);
    if (opens) me.since.store(start.time_since_epoch().count(), std::memory_order_relaxed);
    if (int(g.arrived.fetch_add(1, std::memory_order_acq_rel)) + 1 == size()) {
      g.arrived.store(0, std::memory_order_relaxed);
      g.last.store(rank_, std::memory_order_relaxed);
      g.generation.fetch_add(1, std::memory_order_release);
      for (int r : group_->members)
        if (r != seat_.rank()) memory_.ring(r);
      return;
    }
    for (int spin = 0; spin < spins_ && g.generation.load(std::memory_order_acquire) == seen; spin++) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    if (g.generation.load(std::memory_order_acquire) == seen) sleep_past(seen);
    const double waited = std::chrono::duration<double>(Clock::now() - start).count();
    waiting_ += waited;
    note_wait(g.last.load(std::memory_order_relaxed), waited);
  }

  std::shared_ptr<Communicator> join(int, const std::vector<int>& ranks, int me) override {
    RankRecord& leader = memory_.rank(member(ranks[0]));  // its call's root carries the group's number
    std::vector<int> members;
    for (int r : ranks) members.push_back(member(r));
    meet(false);  // all have read the calls
    if (me == 0) leader.call.root = take_group(int(members.size()));
    meet(false);
    const int group = leader.call.root;
    meet(false);
    if (group < 0) fail("[split] ", kGroups, " groups are in use, which is all there can be");
    return std::make_shared<Shm>(std::make_shared<Membership>(group_->seat, group, std::move(members)), me, spins_);
  }

 private:
  std::byte* part_of(int r, int64_t piece) const {
    const int64_t place = memory_.rank(r).place;
    return place >= 0 ? memory_.at(place) : memory_.window(r, int(piece & 1));
  }
  void sleep_past(uint32_t seen) {
    GroupRecord& g = group_->record();
    Seat::Wait w = wait_for([&] { return g.generation.load(std::memory_order_acquire) != seen; }, -1,
                            memory_.rank(seat_.rank()).call.describe());
    w.missing = [&, this] {
      std::vector<int> found;
      for (int r : group_->members) {
        const RankRecord& other = memory_.rank(r);
        if (int(other.group.load()) != group_->group || other.meeting.load() != seen) found.push_back(r);
      }
      return found;
    };
    w.absent = [&, this] {
      for (int r : w.missing())
        if (seat_.has_left(r)) return r;
      return -1;
    };
    try {
      seat_.wait(w);
    } catch (...) {
      g.arrived.fetch_sub(1);
      throw;
    }
  }
  // Of one rank alone.
  Seat::Wait wait_for(std::function<bool()> ready, int peer, std::string what) {
    return {std::move(ready),
            [this, peer] { return seat_.has_left(peer) ? peer : -1; },
            [peer] { return std::vector<int>{peer}; },
            std::move(what),
            limit_,
            &poll_};
  }
  int take_group(int holders) {
    for (int g = 1; g < kGroups; g++) {
      GroupRecord& record = memory_.group(g);
      int32_t free = 0;
      if (!record.holders.compare_exchange_strong(free, holders)) continue;
      record.arrived = 0;
      return g;
    }
    return -1;
  }

  std::shared_ptr<Membership> group_;
  Seat& seat_;
  NodeMemory& memory_;
  const int rank_, spins_;
  double waiting_ = 0;
};

}  // namespace

std::shared_ptr<Communicator> make_shm(std::shared_ptr<NodeMemory> memory, int rank, double limit,
                                       const std::function<void()>& poll) {
  if (rank < 0 || rank >= memory->size()) fail("[shm] rank ", rank, " is outside [0, ", memory->size(), ")");
  const int spins = memory->size() > int(std::thread::hardware_concurrency()) ? 0 : 4000;  // else a core is waited for
  std::vector<int> members(static_cast<size_t>(memory->size()));
  for (int r = 0; r < memory->size(); r++) members[size_t(r)] = r;
  auto seat = std::make_shared<Seat>(std::move(memory), rank);
  seat->join(limit, poll);
  auto made = std::make_shared<Shm>(std::make_shared<Membership>(seat, 0, std::move(members)), rank, spins);
  made->on_wait(poll);
  return made;
}

}  // namespace thalweg
