// threads.cpp: ranks that are threads of this process. Every collective publishes its call and buffer, meets the
// others, sees that all make the same call, and reads their buffers. Once the ranks of a collective have met, each
// stays until all have read, whatever fails elsewhere: no buffer goes away under a reader.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <string_view>

#include "../exec/shards.h"
#include "../tensor/error.h"
#include "communicator.h"
#include "world.h"

namespace thalweg {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kWholeBytes = 16 << 10;  // up to here every rank folds the whole payload by itself: one copy less
constexpr int64_t kChunkBytes = 8 << 10;   // folded at a time, so that the stack of partial results stays in L1

struct Call {  // what a rank asks for; the ranks must agree on all but the data
  std::string_view operation;
  int64_t elements = 0, element_bytes = 0;
  int root = 0;
  std::byte* data = nullptr;
  int color = 0, key = 0;  // of a split

  bool agrees(const Call& o) const {
    return operation == o.operation && elements == o.elements && element_bytes == o.element_bytes && root == o.root;
  }
  std::string describe() const {
    const std::string size = element_bytes ? text(" of ", elements, " x ", element_bytes, " bytes") : "";
    return text(operation, size, operation == "broadcast" ? text(" from root ", root) : "");
  }
};

struct Letter {
  std::vector<std::byte> data;
  int64_t element_bytes;
};

struct Group {
  Group(std::shared_ptr<World> world, std::vector<int> members)
      : world(std::move(world)), members(std::move(members)), calls(this->members.size()) {}
  int size() const { return int(members.size()); }

  const std::shared_ptr<World> world;
  const std::vector<int> members;  // their ranks in the world
  std::vector<Call> calls;         // of each rank
  std::atomic<uint64_t> generation{0};
  int arrived = 0;
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

class Threads final : public Communicator {
 public:
  Threads(std::shared_ptr<Group> group, int rank) : group_(std::move(group)), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return group_->size(); }
  double seconds_waiting() const override { return waiting_; }

  void barrier() override {
    publish({"barrier"});
    finish();
  }

  void all_reduce(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) override {
    const int64_t bytes = elements * element_bytes;
    const bool whole = bytes <= kWholeBytes || elements < size();
    std::byte* folded = whole ? buffer(0, bytes) : data + share(elements, rank_, size()) * element_bytes;
    prepare_fold(element_bytes);
    publish({"all_reduce", elements, element_bytes, 0, data});
    if (whole) {
      fold(0, elements, element_bytes, merge, folded);
      finish();
      if (bytes) std::memcpy(data, folded, bytes);
      return;
    }
    fold_share(elements, element_bytes, merge, folded);
    finish();
    for (int r = 0; r < size(); r++)
      if (r != rank_) copy_share(data, r, elements, element_bytes);
    finish();
  }

  void reduce_scatter(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) override {
    prepare_fold(element_bytes);
    publish({"reduce_scatter", elements, element_bytes, 0, data});
    fold_share(elements, element_bytes, merge, data + share(elements, rank_, size()) * element_bytes);
    finish();
  }

  void all_gather(const std::byte* mine, int64_t elements, int64_t element_bytes, std::byte* all) override {
    publish({"all_gather", elements, element_bytes, 0, const_cast<std::byte*>(mine)});
    const int64_t bytes = elements * element_bytes;
    for (int r = 0; bytes && r < size(); r++) std::memcpy(all + r * bytes, group_->calls[r].data, bytes);
    finish();
  }

  void broadcast(std::byte* data, int64_t elements, int64_t element_bytes, int root) override {
    publish({"broadcast", elements, element_bytes, root, data});
    const int64_t bytes = elements * element_bytes;
    if (bytes && rank_ != root) std::memcpy(data, group_->calls[root].data, bytes);
    finish();
  }

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

  std::unique_ptr<Communicator> split(int color, int key) override {
    publish({"split", 0, 0, 0, nullptr, color, key});
    std::vector<std::pair<int, int>> order;  // (key, rank) of my colour
    for (int r = 0; r < size(); r++)
      if (group_->calls[r].color == color) order.emplace_back(group_->calls[r].key, r);
    std::sort(order.begin(), order.end());
    std::vector<int> members;
    for (auto& [k, r] : order) members.push_back(member(r));
    const auto me = std::find(members.begin(), members.end(), member(rank_)) - members.begin();
    std::shared_ptr<Group> child;
    {
      std::lock_guard lock(world().mutex);
      auto& made = group_->children[color];
      if (!made) made = std::make_shared<Group>(group_->world, std::move(members));
      child = made;
    }
    finish();
    if (rank_ == 0) group_->children.clear();
    finish();
    return std::make_unique<Threads>(child, int(me));
  }

  void leave() override {
    std::lock_guard lock(world().mutex);
    world().leave(member(rank_));
  }

  void abort(const std::string& why) override {
    std::lock_guard lock(world().mutex);
    world().end(why);
  }

 private:
  World& world() const { return *group_->world; }
  int member(int rank) const { return group_->members[rank]; }

  // Meets the others at the start of a collective; afterwards their calls may be read until finish().
  void publish(const Call& call) {
    group_->calls[rank_] = call;
    meet(true);
    const std::string difference = disagreement();
    if (difference.empty()) return;
    finish();  // every rank has found the same
    throw ValueError(difference);
  }
  void finish() { meet(false); }

  // Waits until all ranks of the group have come. `lost`: gives up when one never will; without, all are bound to.
  void meet(bool lost) {
    const auto start = Clock::now();
    Group& g = *group_;
    uint64_t seen;
    {
      std::lock_guard lock(world().mutex);
      if (lost) world().check();
      seen = g.generation.load(std::memory_order_relaxed);
      if (++g.arrived == g.size()) {
        g.arrived = 0;
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
    waiting_ += std::chrono::duration<double>(Clock::now() - start).count();
  }
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

  // What the ranks don't agree on: the same text on each of them; empty where they agree.
  std::string disagreement() const {
    constexpr int kNamed = 4;
    const std::vector<Call>& calls = group_->calls;
    std::string others;
    int found = 0;
    for (int r = 1; r < size(); r++)
      if (!calls[r].agrees(calls[0]) && found++ < kNamed)
        others += text(", rank ", member(r), " calls ", calls[r].describe());
    if (!found) return others;
    if (found > kNamed) others += text(", and ", found - kNamed, " more ranks differ");
    return text("[", calls[0].operation, "] rank ", member(0), " calls ", calls[0].describe(), others,
                ": all ranks must make the same call, with arrays of one length and dtype");
  }

  void copy_share(std::byte* data, int r, int64_t elements, int64_t element_bytes) {
    const int64_t begin = share(elements, r, size()) * element_bytes,
                  end = share(elements, r + 1, size()) * element_bytes;
    std::memcpy(data + begin, group_->calls[r].data + begin, end - begin);
  }
  // Reusable memory of this rank: 0 a whole payload, 1 the stack of partial results.
  std::byte* buffer(int which, int64_t bytes) {
    if (int64_t(buffers_[which].size()) < bytes) buffers_[which].resize(bytes);
    return buffers_[which].data();
  }
  static int64_t chunk_of(int64_t element_bytes) {
    return std::max<int64_t>(1, kChunkBytes / std::max<int64_t>(1, element_bytes));
  }
  // Takes the memory of fold(), which must not fail: the others rely on this rank then.
  void prepare_fold(int64_t element_bytes) {
    buffer(1, chunk_of(element_bytes) * element_bytes * tree_slots(size()));
    held_.resize(tree_slots(size()));
  }
  // Only this rank reads this share of anybody's buffer, so the result may go in its place.
  void fold_share(int64_t elements, int64_t element_bytes, const Merge& merge, std::byte* out) {
    fold(share(elements, rank_, size()), share(elements, rank_ + 1, size()), element_bytes, merge, out);
  }
  // out = elements [begin, end) folded over the ranks, in chunks.
  void fold(int64_t begin, int64_t end, int64_t element_bytes, const Merge& merge, std::byte* out) {
    const int64_t chunk = chunk_of(element_bytes), slot_bytes = chunk * element_bytes;
    std::byte* slots = buffers_[1].data();
    for (int64_t at = begin; at < end; at += chunk) {
      const int64_t count = std::min(chunk, end - at), bytes = count * element_bytes;
      fold_tree(
          size(),
          [&](int64_t r, int slot) {
            std::memcpy(slots + slot * slot_bytes, group_->calls[r].data + at * element_bytes, bytes);
            held_[slot] = {int(r), int(r) + 1};
          },
          [&](int a, int b) {
            merge(slots + a * slot_bytes, held_[a], slots + b * slot_bytes, held_[b], count);
            held_[a].last = held_[b].last;
          });
      std::memcpy(out + (at - begin) * element_bytes, slots, bytes);
    }
  }

  std::shared_ptr<Group> group_;
  const int rank_;
  double waiting_ = 0;
  std::vector<std::byte> buffers_[2];
  std::vector<Ranks> held_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_threads(int size) {
  std::vector<int> members(size);
  for (int r = 0; r < size; r++) members[r] = r;
  auto group = std::make_shared<Group>(std::make_shared<World>(size), std::move(members));
  std::vector<std::unique_ptr<Communicator>> all;
  for (int r = 0; r < size; r++) all.push_back(std::make_unique<Threads>(group, r));
  return all;
}

}  // namespace thalweg
