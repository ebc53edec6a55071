// shm.cpp: ranks that are processes of one node: each copies its data into a window that the others see.
#include "shm.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "../tensor/error.h"
#include "seat.h"
#include "visible.h"

namespace thalweg {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kPage = 2 << 20;  // of the heap's parts
// A process that ends can't be read some time before it is found to be gone: its memory goes first, 0.1 s a GB.
constexpr auto kMayBeEnding = std::chrono::seconds(5);

// A group's record in the memory, given back when the last of its ranks has dropped it; then this rank's desk is too.
class Membership {
 public:
  Membership(std::shared_ptr<Seat> seat, int group, std::vector<int> members, std::vector<int64_t> desks)
      : seat(std::move(seat)),
        group(group),
        members(std::move(members)),
        desks(std::move(desks)),
        epoch_(record().epoch) {}
  ~Membership() {
    seat->letters().forget(mail());
    record().holders.fetch_sub(1);
    const size_t me = size_t(std::find(members.begin(), members.end(), seat->rank()) - members.begin());
    if (group > 0) seat->give_back_after(group, epoch_, desks[me], kDeskBytes);
  }
  GroupRecord& record() const { return seat->memory().group(group); }
  int64_t mail() const { return int64_t(epoch_) * kGroups + group; }  // letters of those who had its number are not its

  static constexpr int64_t kDeskBytes = (int64_t(sizeof(Desk)) + kPage - 1) / kPage * kPage;
  const std::shared_ptr<Seat> seat;
  const int group;
  const std::vector<int> members;    // their ranks in the memory
  const std::vector<int64_t> desks;  // of each of them

 private:
  const uint32_t epoch_;
};

class Shm final : public Visible {
 public:
  Shm(std::shared_ptr<Membership> group, int rank, int spins, std::shared_ptr<Beside> beside)
      : Visible(std::move(beside)),
        group_(std::move(group)),
        seat_(*group_->seat),
        memory_(seat_.memory()),
        rank_(rank),
        spins_(spins) {}
  ~Shm() override { started_.drop(); }
  int rank() const override { return rank_; }
  int size() const override { return int(group_->members.size()); }
  double seconds_waiting() const override { return waiting_; }

  std::shared_ptr<std::byte> take(int64_t bytes) override {
    bytes = (std::max<int64_t>(1, bytes) + kPage - 1) / kPage * kPage;
    const int64_t place = seat_.take(bytes);
    if (place < 0) return nullptr;
    return {memory_.at(place), [seat = group_->seat, place, bytes](std::byte*) { seat->give_back(place, bytes); }};
  }
  void abort(const std::string& why) override { memory_.end(why); }

 protected:
  Call& call(int lane, int parity, int r) override { return desk(r).lanes[lane].calls[parity]; }
  std::byte* small(int lane, int parity, int r) override { return desk(r).small[lane][parity]; }
  int member(int r) const override { return memory_.name(place(r)); }
  void show(int lane, const std::byte* data, int64_t bytes, int64_t piece, const std::shared_ptr<void>&, int64_t begin,
            int64_t end) override {
    Desk::Lane& mine = desk(rank_).lanes[lane];
    if (piece == 0) {  // the same for all pieces: others may still read that of the last
      mine.place = sees(data, bytes) ? memory_.place_of(data) : -1;
      mine.lent = is_lent(called(lane)) ? data : nullptr;
    }
    if (!bytes || mine.place >= 0 || mine.lent) return;
    std::byte* window = own(lane, piece);
    std::memcpy(window, data, size_t(begin));
    std::memcpy(window + end, data + end, size_t(bytes - end));
  }
  std::byte* shown(int lane, int r, int64_t piece) const override { return part_of(lane, r, piece); }
  std::byte* own(int lane, int64_t piece) override { return part_of(lane, rank_, piece); }
  bool lends() const override { return seat_.all_read(); }
  void read_lent(int lane, int r, std::byte* to, int64_t bytes) override {
    if (memory_.read(place(r), desk(r).lanes[lane].lent, to, bytes)) return;
    const int error = errno;
    const auto start = Clock::now();
    do {
      seat_.check_others(called(lane).describe());
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    } while ((error == ESRCH || error == EFAULT) && Clock::now() - start < kMayBeEnding);
    memory_.end(text("rank ", member(rank_), " can't read the array of rank ", member(r), " in ",
                     called(lane).describe(), ": ", std::strerror(error)));
    seat_.check();
  }
  bool sees(const std::byte* data, int64_t bytes) const override {
    const std::byte* heap = memory_.heap(seat_.rank());
    return data >= heap && data + bytes <= heap + kHeapBytes;
  }
  int64_t place_of(const std::byte* mine) const override { return memory_.place_of(mine); }
  std::byte* at_place(int64_t place) const override { return memory_.at(place); }
  int64_t window() const override { return kWindowBytes; }
  Going send_letter(Call c, const std::byte* data, int to) override {
    seat_.check();
    co_await Until<Posting>(*this, c, data, place(to));
  }
  void expect_letter(const Call& c, std::byte* data, int from) override {
    letters().expect(group_->mail(), place(from), c, data);
  }
  bool has_letter(int from) override {
    letters().take_in(place(from));
    return !box(from).empty();
  }
  void wait_for_letter(const Call& c, int from) override {
    const auto ready = [this, from] { return has_letter(from); };
    const auto comes = [this, from] { return letters().has_new(place(from)); };
    wait(ready, comes, [&] { return letter(ready, place(from), c); });
  }
  void look_for_letter(const Call& c, int from) override {
    seat_.look(letter([this, from] { return has_letter(from); }, place(from), c), 0);
  }
  Letter take_letter(int from) override {
    Letter first = std::move(box(from).front());
    box(from).pop_front();
    return first;
  }
  void return_letter(int from, Letter letter) override { box(from).push_front(std::move(letter)); }
  void left() override { seat_.leave(); }
  int last(int lane) const override { return group_->record().lanes[lane].last.load(std::memory_order_relaxed); }
  void look() override { seat_.check_others(called(0).describe()); }

  uint64_t come(int lane, bool opens) override {
    if (opens) {
      seat_.check();
      seat_.record().call = called(lane);
      seat_.record().since.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed);
    }
    GroupRecord::Lane& g = group_->record().lanes[lane];
    const uint32_t seen = g.generation.load(std::memory_order_relaxed);
    desk(rank_).lanes[lane].meeting.store(seen + 1, std::memory_order_relaxed);
    if (int(g.arrived.fetch_add(1, std::memory_order_acq_rel)) + 1 == size()) {
      g.arrived.store(0, std::memory_order_relaxed);
      g.last.store(rank_, std::memory_order_relaxed);
      g.generation.fetch_add(1, std::memory_order_release);
      for (int r : group_->members)
        if (r != seat_.rank()) memory_.ring(r);
    }
    return seen;
  }
  bool came(int lane, uint64_t seen) const override {
    return group_->record().lanes[lane].generation.load(std::memory_order_acquire) != uint32_t(seen);
  }
  void look_for(int lane, uint64_t seen) override { seat_.look(meeting(lane, seen), 0); }
  void withdraw(int lane, uint64_t) override { group_->record().lanes[lane].arrived.fetch_sub(1); }

  void wait_until_came(int lane, uint64_t seen, bool opens) override {
    const auto start = Clock::now();
    const auto ready = [&] { return came(lane, seen); };
    wait(ready, ready, [&] { return meeting(lane, seen); });
    const double waited = std::chrono::duration<double>(Clock::now() - start).count();
    if (!opens && among_nodes_) return;
    waiting_ += waited;
    note_wait(last(lane), waited);
  }

  std::shared_ptr<Communicator> join(int, const std::vector<int>& ranks, int me) override {
    RankRecord& leader = memory_.rank(place(ranks[0]));
    std::vector<int> members;
    for (int r : ranks) members.push_back(place(r));
    seat_.record().desk = seat_.take(Membership::kDeskBytes);
    if (me == 0) leader.group = take_group(int(members.size()));
    meet();
    const int group = leader.group;
    std::vector<int64_t> desks;
    for (int r : members) desks.push_back(memory_.rank(r).desk);
    meet();  // all have read
    if (group < 0) fail("[split] ", kGroups, " groups are in use, which is all there can be");
    for (int64_t place : desks)
      if (place < 0)
        fail("[split] no memory that the ranks share is left: ", kHeapBytes, " bytes of a rank are in use");
    auto made = std::make_shared<Membership>(group_->seat, group, std::move(members), std::move(desks));
    return std::make_shared<Shm>(std::move(made), me, spins_, started_.beside());
  }

 private:
  // A letter's way into the stream to its receiver.
  class Posting final : public Awaited {
   public:
    Posting(Shm& all, const Call& c, const std::byte* data, int to)
        : all_(all), call_(c), to_(to), writing_(all.letters(), all.group_->mail(), c, data, to) {}
    bool ready() override {
      if (writing_.go_on()) return true;
      all_.letters().take_in();  // the other may wait for room as well
      return false;
    }
    void wait() override {
      all_.wait([this] { return ready(); }, [this] { return can_go_on(); }, [this] { return sleep(); });
    }
    bool can_go_on() override { return writing_.can_go_on(); }
    void look() override { all_.seat_.look(sleep(), 0); }

   private:
    Seat::Wait sleep() {
      return all_.letter([this] { return can_go_on(); }, to_, call_);
    }
    Shm& all_;
    const Call& call_;
    const int to_;
    Letters::Writing writing_;
  };

  Letters& letters() { return seat_.letters(); }
  std::deque<Letter>& box(int from) { return letters().box(group_->mail(), place(from)); }
  Beside& beside() const { return *started_.beside(); }
  int place(int r) const { return group_->members[size_t(r)]; }  // its rank in the memory
  Desk& desk(int r) const { return memory_.desk(group_->desks[size_t(r)]); }
  std::byte* part_of(int lane, int r, int64_t piece) const {
    Desk& d = desk(r);
    const int64_t place = d.lanes[lane].place;
    return place >= 0 ? memory_.at(place) : d.windows[lane][piece & 1];
  }
  // Until it is ready, which goes on when it can: spins, then sleeps. What was started goes on meanwhile.
  template <class Ready, class Can, class Sleep>
  void wait(const Ready& ready, const Can& can_go_on, const Sleep& sleep) {
    for (bool spins = true; !ready();) {
      if (spins && spun(can_go_on)) continue;
      seat_.wait(sleep());
      beside().progress();
      spins = can_go_on();
    }
  }
  template <class Can>
  bool spun(const Can& can_go_on) const {
    for (int spin = 0; spin < spins_; spin++) {
      if (can_go_on()) return true;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
      if (spin % 64 == 63) beside().progress();
    }
    return false;
  }
  Seat::Wait meeting(int lane, uint64_t seen) {
    const auto missing = [=, this] {
      std::vector<int> found;
      for (int r = 0; r < size(); r++)
        if (desk(r).lanes[lane].meeting.load() != uint32_t(seen) + 1) found.push_back(place(r));
      return found;
    };
    const auto absent = [=, this] {
      for (int r : missing())
        if (seat_.has_left(r)) return r;
      return -1;
    };
    return {ready_or_beside([=, this] { return came(lane, seen); }),
            absent,
            missing,
            called(lane).describe(),
            limit_,
            &poll_,
            !beside().rings()};
  }
  // For one rank alone.
  Seat::Wait letter(std::function<bool()> ready, int peer, const Call& c) {
    seat_.check();
    return {ready_or_beside(std::move(ready)),
            [this, peer] { return seat_.has_left(peer) ? peer : -1; },
            [peer] { return std::vector<int>{peer}; },
            c.describe(),
            limit_,
            &poll_,
            !beside().rings()};
  }
  std::function<bool()> ready_or_beside(std::function<bool()> ready) {
    return [this, ready = std::move(ready)] { return ready() || beside().can_go_on(); };
  }
  int take_group(int holders) {
    for (int g = 1; g < kGroups; g++) {
      GroupRecord& record = memory_.group(g);
      int32_t free = 0;
      if (!record.holders.compare_exchange_strong(free, holders)) continue;
      record.epoch.fetch_add(1);
      for (GroupRecord::Lane& lane : record.lanes) lane.arrived = 0;
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

std::shared_ptr<Visible> make_shm(std::shared_ptr<NodeMemory> memory, int rank, double limit,
                                  const std::function<void()>& poll, std::shared_ptr<Beside> beside) {
  if (rank < 0 || rank >= memory->size()) fail("[shm] rank ", rank, " is outside [0, ", memory->size(), ")");
  const int spins = memory->size() > int(std::thread::hardware_concurrency()) ? 0 : 4000;  // else a core is waited for
  std::vector<int> members;
  std::vector<int64_t> desks;
  for (int r = 0; r < memory->size(); r++) {
    members.push_back(r);
    desks.push_back(memory->first_desk(r));
  }
  auto seat = std::make_shared<Seat>(std::move(memory), rank);
  seat->join(limit, poll);
  auto group = std::make_shared<Membership>(seat, 0, std::move(members), std::move(desks));
  auto made = std::make_shared<Shm>(std::move(group), rank, spins, std::move(beside));
  made->on_wait(poll);
  return made;
}

}  // namespace thalweg
