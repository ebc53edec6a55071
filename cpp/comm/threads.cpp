// threads.cpp: ranks that are threads of this process. Every collective publishes its buffer, meets the others at a
// barrier, and reads theirs. A rank that fails aborts the group, and every other rank throws Lost instead of waiting.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>

#include "../exec/shards.h"
#include "communicator.h"

namespace thalweg {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kWholeBytes = 16 << 10;  // up to here every rank folds the whole payload by itself: one copy less
constexpr int64_t kChunkBytes = 8 << 10;   // folded at a time, so that the stack of partial results stays in L1

struct Group {
  explicit Group(int size) : size(size), published(size), splits(size) {}
  const int size;
  std::vector<std::byte*> published;

  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<uint64_t> generation{0};
  int arrived = 0;
  std::atomic<bool> aborted{false};
  std::string why;
  std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> mail;
  struct Split {
    int color, key;
  };
  std::vector<Split> splits;
  std::map<int, std::shared_ptr<Group>> children;

  // As changed.wait: but that symbol is newer (GLIBCXX_3.4.30) than the systems of manylinux_2_34.
  template <class Ready>
  void wait(std::unique_lock<std::mutex>& lock, Ready ready) {
    while (!changed.wait_for(lock, std::chrono::hours(1), ready)) {}
  }
};

class Threads final : public Communicator {
 public:
  Threads(std::shared_ptr<Group> group, int rank) : group_(std::move(group)), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return group_->size; }
  double seconds_waiting() const override { return waiting_; }

  void barrier() override {
    const auto start = Clock::now();
    Group& g = *group_;
    uint64_t seen;
    {
      std::lock_guard lock(g.mutex);
      check();
      seen = g.generation.load(std::memory_order_relaxed);
      if (++g.arrived == g.size) {
        g.arrived = 0;
        g.generation.fetch_add(1, std::memory_order_release);
        g.changed.notify_all();
        return;
      }
    }
    wait_past(seen);
    waiting_ += std::chrono::duration<double>(Clock::now() - start).count();
  }

  void all_reduce(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) override {
    if (elements == 0) return barrier();
    if (elements * element_bytes <= kWholeBytes || elements < size()) {
      std::vector<std::byte>& whole = buffer(0, elements * element_bytes);
      publish(data);
      fold(0, elements, element_bytes, merge, whole.data());
      barrier();  // everybody has read what stands in `data`
      std::memcpy(data, whole.data(), elements * element_bytes);
      return;
    }
    reduce_scatter(data, elements, element_bytes, merge);
    for (int r = 0; r < size(); r++)
      if (r != rank_) copy_share(data, r, elements, element_bytes);
    barrier();
  }

  void reduce_scatter(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) override {
    publish(data);
    const int64_t begin = share(elements, rank_, size()), end = share(elements, rank_ + 1, size());
    // Only this rank reads this share of anybody's buffer, so the result may go in its place.
    fold(begin, end, element_bytes, merge, data + begin * element_bytes);
    barrier();
  }

  void all_gather(const std::byte* mine, int64_t bytes, std::byte* all) override {
    publish(const_cast<std::byte*>(mine));
    for (int r = 0; r < size(); r++) std::memcpy(all + r * bytes, group_->published[r], bytes);
    barrier();
  }

  void broadcast(std::byte* data, int64_t bytes, int root) override {
    publish(data);
    if (rank_ != root) std::memcpy(data, group_->published[root], bytes);
    barrier();
  }

  void send(const std::byte* data, int64_t bytes, int to) override {
    std::lock_guard lock(group_->mutex);
    check();
    group_->mail[{rank_, to}].emplace_back(data, data + bytes);
    group_->changed.notify_all();
  }

  void recv(std::byte* data, int64_t bytes, int from) override {
    std::unique_lock lock(group_->mutex);
    auto& box = group_->mail[{from, rank_}];
    group_->wait(lock, [&] { return !box.empty() || group_->aborted; });
    check();
    if (int64_t(box.front().size()) != bytes)
      throw Lost("rank " + std::to_string(rank_) + " expects " + std::to_string(bytes) + " bytes from rank " +
                 std::to_string(from) + ", which sent " + std::to_string(box.front().size()));
    std::memcpy(data, box.front().data(), bytes);
    box.pop_front();
  }

  std::unique_ptr<Communicator> split(int color, int key) override {
    group_->splits[rank_] = {color, key};
    barrier();
    std::vector<std::pair<int, int>> members;  // (key, rank) of my colour, in their new order
    for (int r = 0; r < size(); r++)
      if (group_->splits[r].color == color) members.emplace_back(group_->splits[r].key, r);
    std::sort(members.begin(), members.end());
    std::shared_ptr<Group> child;
    {
      std::lock_guard lock(group_->mutex);
      auto& made = group_->children[color];
      if (!made) made = std::make_shared<Group>(int(members.size()));
      child = made;
    }
    barrier();
    if (rank_ == 0) group_->children.clear();
    barrier();
    const auto me = std::find_if(members.begin(), members.end(), [&](auto& m) { return m.second == rank_; });
    return std::make_unique<Threads>(child, int(me - members.begin()));
  }

  void abort(const std::string& why) override {
    std::lock_guard lock(group_->mutex);
    if (group_->aborted) return;
    group_->why = why;
    group_->aborted = true;
    group_->generation.fetch_add(1, std::memory_order_release);
    group_->changed.notify_all();
  }

 private:
  void check() const {
    if (group_->aborted) throw Lost(group_->why);
  }
  void wait_past(uint64_t seen) {
    Group& g = *group_;
    for (int spin = 0; spin < 4000 && g.generation.load(std::memory_order_acquire) == seen; spin++) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    if (g.generation.load(std::memory_order_acquire) == seen) {
      std::unique_lock lock(g.mutex);
      g.wait(lock, [&] { return g.generation.load(std::memory_order_relaxed) != seen; });
    }
    if (g.aborted) {
      std::lock_guard lock(g.mutex);
      check();
    }
  }
  void publish(std::byte* data) {
    group_->published[rank_] = data;
    barrier();
  }
  void copy_share(std::byte* data, int r, int64_t elements, int64_t element_bytes) {
    const int64_t begin = share(elements, r, size()) * element_bytes,
                  end = share(elements, r + 1, size()) * element_bytes;
    std::memcpy(data + begin, group_->published[r] + begin, end - begin);
  }
  // Reusable memory of this rank: 0 a whole payload, 1 the stack of partial results.
  std::vector<std::byte>& buffer(int which, int64_t bytes) {
    if (int64_t(buffers_[which].size()) < bytes) buffers_[which].resize(bytes);
    return buffers_[which];
  }
  // out = elements [begin, end) folded over the ranks, in chunks.
  void fold(int64_t begin, int64_t end, int64_t element_bytes, const Merge& merge, std::byte* out) {
    const int64_t chunk = std::max<int64_t>(1, kChunkBytes / element_bytes), slot_bytes = chunk * element_bytes;
    std::byte* slots = buffer(1, slot_bytes * tree_slots(size())).data();
    std::vector<Ranks> held(tree_slots(size()));
    for (int64_t at = begin; at < end; at += chunk) {
      const int64_t count = std::min(chunk, end - at), bytes = count * element_bytes;
      fold_tree(
          size(),
          [&](int64_t r, int slot) {
            std::memcpy(slots + slot * slot_bytes, group_->published[r] + at * element_bytes, bytes);
            held[slot] = {int(r), int(r) + 1};
          },
          [&](int a, int b) {
            merge(slots + a * slot_bytes, held[a], slots + b * slot_bytes, held[b], count);
            held[a].last = held[b].last;
          });
      std::memcpy(out + (at - begin) * element_bytes, slots, bytes);
    }
  }

  std::shared_ptr<Group> group_;
  const int rank_;
  double waiting_ = 0;
  std::vector<std::byte> buffers_[2];
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_threads(int size) {
  auto group = std::make_shared<Group>(size);
  std::vector<std::unique_ptr<Communicator>> all;
  for (int r = 0; r < size; r++) all.push_back(std::make_unique<Threads>(group, r));
  return all;
}

}  // namespace thalweg
