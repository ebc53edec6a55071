#include "seat.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "../tensor/error.h"
#include "awake.h"

namespace thalweg {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kLookSeconds = 0.05;
constexpr double kNapSeconds = 50e-6;

std::string list(const NodeMemory& memory, const std::vector<int>& ranks) {
  constexpr size_t kNamed = 8;
  std::string all = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < std::min(kNamed, ranks.size()); i++) all += text(i ? ", " : "", memory.name(ranks[i]));
  return ranks.size() > kNamed ? text(all, " and ", ranks.size() - kNamed, " more") : all;
}

}  // namespace

void Seat::join(double limit, const std::function<void()>& poll) {
  memory_->lock(rank_);
  record().pid = int32_t(getpid());
  record().since = Clock::now().time_since_epoch().count();
  record().base = memory_->at(0);
  record().token = &token_;
  record().value = token_;
  record().presence = Presence::joined;
  wait_for_all([](const RankRecord& r) { return r.presence.load(std::memory_order_acquire) != Presence::expected; },
               limit, poll);
  record().reads = reads_all() ? Reads::yes : Reads::no;
  wait_for_all([](const RankRecord& r) { return r.reads.load(std::memory_order_acquire) != Reads::unknown; }, limit,
               poll);
  all_read_ = true;
  for (int r = 0; r < memory_->size(); r++) all_read_ &= memory_->rank(r).reads.load() == Reads::yes;
  if (all_read_) letters_.lend();
}

// The number that another process has may be that of one that can be read, seen from here.
bool Seat::reads_all() const {
  for (int r = 0; r < memory_->size(); r++) {
    uint64_t found = 0;
    const auto* token = reinterpret_cast<const std::byte*>(memory_->rank(r).token);
    if (!memory_->read(r, token, reinterpret_cast<std::byte*>(&found), sizeof found)) return false;
    if (found != memory_->rank(r).value) return false;
  }
  return true;
}

void Seat::wait_for_all(const std::function<bool(const RankRecord&)>& has, double limit,
                        const std::function<void()>& poll) {
  memory_->ring_all();
  auto missing = [&] {
    std::vector<int> found;
    for (int r = 0; r < memory_->size(); r++)
      if (!has(memory_->rank(r))) found.push_back(r);
    return found;
  };
  wait({[&] { return missing().empty(); }, [] { return -1; }, missing, "the start of all ranks", limit, &poll});
}

void Seat::leave() {
  record().presence = Presence::left;
  memory_->ring_all();
}

void Seat::check() const {
  if (memory_->has_ended()) throw Lost(memory_->why());
}

void Seat::wait(const Wait& w) {
  RankRecord& me = record();
  struct Awake {
    RankRecord& me;
    ~Awake() { me.asleep.store(kAwake, std::memory_order_relaxed); }
  } awake{me};
  const size_t n = std::min(w.what.size(), sizeof(me.what) - 1);
  std::memcpy(me.what, w.what.data(), n);
  me.what[n] = 0;
  AwakeClock clock;
  for (double last = 0;;) {
    me.asleep.store(kLooking, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const uint32_t heard = me.bell.load(std::memory_order_seq_cst);
    if (w.ready()) return;  // before a letter is taken in: who expects it may be next
    letters_.take_in();
    if (w.ready()) return;
    check();
    me.heard.store(heard, std::memory_order_seq_cst);
    me.asleep.store(w.naps ? kLooking : kAsleep, std::memory_order_seq_cst);
    memory_->sleep(rank_, heard, w.naps ? kNapSeconds : kLookSeconds);
    const double waited = clock.seconds();
    if (waited - last < kLookSeconds) continue;
    last = waited;
    look(w, waited);
  }
}

// Ends a wait that can't end otherwise. What tells so is looked at first, then all that came before it: a rank may have
// done its part and left since this one looked last. And `stuck` before `left`: who leaves now is not the reason of it.
void Seat::look(const Wait& w, double waited) {
  (*w.poll)();
  const bool stuck = nobody_can_go_on();
  const int left = w.absent();
  letters_.take_in();
  if (w.ready()) return;
  check();
  if (left >= 0)
    throw Lost(text("rank ", memory_->name(left), " has left: it ended while rank ", name(), " waits in ", w.what,
                    " (all ranks must make the same calls)"));
  check_alive(w.what);
  if (stuck) memory_->end(who_waits());
  else if (w.limit > 0 && waited > w.limit) memory_->end(out_of_time(w, waited));
  check();
}

void Seat::check_others(const std::string& what) {
  check();
  check_alive(what);
  check();
}

void Seat::check_alive(const std::string& what) {
  for (int r = 0; r < memory_->size(); r++) {
    if (memory_->rank(r).presence.load(std::memory_order_acquire) != Presence::joined || memory_->is_alive(r)) continue;
    if (memory_->rank(r).presence.load(std::memory_order_acquire) != Presence::joined) continue;  // it has just left
    for (int k = 0; k < 10 && !memory_->has_ended(); k++)  // whoever started it may know why
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    memory_->end(text("rank ", memory_->name(r), " was lost: its process ended without a word (killed, or out of ",
                      "memory?) while rank ", name(), " waits in ", what));
    return;
  }
}

// Whether every rank that has not left sleeps and has heard of all that changed. Twice, as one may wake in between.
bool Seat::nobody_can_go_on() const {
  uint64_t bells[2] = {0, 0};
  for (uint64_t& sum : bells)
    for (int r = 0; r < memory_->size(); r++) {
      const RankRecord& other = memory_->rank(r);
      const Presence presence = other.presence.load(std::memory_order_seq_cst);
      if (presence == Presence::left) continue;
      const uint32_t bell = other.bell.load(std::memory_order_seq_cst);
      if (presence == Presence::expected) return false;
      if (other.asleep.load(std::memory_order_seq_cst) != kAsleep || other.heard.load() != bell) return false;
      sum += bell;
    }
  return bells[0] == bells[1];
}

std::string Seat::who_waits() const {
  constexpr int kNamed = 4;
  std::string all = "no rank can go on: ";
  int found = 0;
  for (int r = 0; r < memory_->size(); r++)
    if (!has_left(r) && found++ < kNamed)
      all += text(found > 1 ? ", " : "", "rank ", memory_->name(r), " waits in ", memory_->rank(r).what);
  return found > kNamed ? text(all, ", and ", found - kNamed, " more ranks wait") : all;
}

std::string Seat::out_of_time(const Wait& w, double waited) const {
  const std::vector<int> missing = w.missing();
  std::string all = text("rank ", name(), " has waited ", std::round(waited * 10) / 10, " s in ", w.what, " for ",
                         list(*memory_, missing), ", the limit is ", w.limit, " s");
  for (size_t i = 0; i < std::min<size_t>(4, missing.size()); i++) {
    const RankRecord& other = memory_->rank(missing[i]);
    if (other.presence.load() == Presence::expected) {
      all += text("; rank ", memory_->name(missing[i]), " never came");
      continue;
    }
    const double since = 1e-9 * double(Clock::now().time_since_epoch().count() - other.since.load());
    all += text("; rank ", memory_->name(missing[i]), " made its last call, ", other.call.describe(), ", ",
                std::round(since * 10) / 10, " s ago");
  }
  return all;
}

int64_t Seat::take(int64_t bytes) {
  std::erase_if(later_, [this](const Later& l) {
    const GroupRecord& g = memory_->group(l.group);
    const bool over = g.epoch.load() != l.epoch || g.holders.load() == 0;
    if (over) give_back(l.place, l.bytes);
    return over;
  });
  const auto found = std::find_if(free_.begin(), free_.end(), [&](auto& part) { return part.second >= bytes; });
  if (found == free_.end()) return -1;
  const auto [place, size] = *found;
  free_.erase(found);
  if (size > bytes) free_[place + bytes] = size - bytes;
  return place;
}

void Seat::give_back(int64_t place, int64_t bytes) {
  memory_->drop(place, bytes);
  const auto next = free_.lower_bound(place);
  if (next != free_.end() && next->first == place + bytes) {
    bytes += next->second;
    free_.erase(next);
  }
  if (const auto after = free_.lower_bound(place); after != free_.begin()) {
    auto& [before, size] = *std::prev(after);
    if (before + size == place) {
      size += bytes;
      return;
    }
  }
  free_[place] = bytes;
}

void Seat::give_back_after(int group, uint32_t epoch, int64_t place, int64_t bytes) {
  later_.push_back({group, epoch, place, bytes});
}

}  // namespace thalweg
