// mpi.cpp: collectives from messages between two ranks. Every collective begins with a block from each rank to each
// other: its call, and its data where they fit. Larger sums: each rank gets its share of everybody's data, folds it in
// the tree, and sends it to all: 2 (P - 1) / P of the payload per rank and direction, the least there can be.
#include "mpi.h"

#include <chrono>
#include <cstring>

#include "../tensor/error.h"
#include "call.h"
#include "fold.h"
#include "post.h"

namespace thalweg {
namespace {

constexpr int64_t kInlineBytes = 512;       // of data that go along with the call
constexpr int64_t kWholeBytes = 16 << 10;   // up to here every rank gets all data: one turn less
constexpr int64_t kWindowBytes = 32 << 20;  // of a sum under way at a time: as much memory is taken for it

struct Block {
  Call call;
  int64_t next_group = 0;
  std::byte data[kInlineBytes];
};

struct LetterHead {
  int64_t bytes, element_bytes;
};

class Mpi final : public Communicator {
 public:
  Mpi(std::shared_ptr<Post> post, int group, std::vector<int> members, int rank)
      : post_(std::move(post)),
        group_(group),
        members_(std::move(members)),
        rank_(rank),
        blocks_(members_.size()),
        heads_(members_.size()) {}
  int rank() const override { return rank_; }
  int size() const override { return int(members_.size()); }
  double seconds_waiting() const override { return waiting_; }

  void barrier() override { open(Call(), nullptr); }

  void all_reduce(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) override {
    reduce(Call(Operation::all_reduce, elements, element_bytes), data, merge);
  }
  void reduce_scatter(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) override {
    reduce(Call(Operation::reduce_scatter, elements, element_bytes), data, merge);
  }

  void all_gather(const std::byte* mine, int64_t elements, int64_t element_bytes, std::byte* all) override {
    const Call c(Operation::all_gather, elements, element_bytes);
    const int64_t bytes = elements * element_bytes;
    if (open(c, mine)) {
      for (int r = 0; bytes && r < size(); r++) std::memcpy(all + r * bytes, blocks_[size_t(r)].data, size_t(bytes));
      return;
    }
    gather(c, mine, bytes, all);
  }

  void broadcast(std::byte* data, int64_t elements, int64_t element_bytes, int root) override {
    const Call c(Operation::broadcast, elements, element_bytes, root);
    const int64_t bytes = elements * element_bytes;
    if (open(c, data)) {
      if (bytes && rank_ != root) std::memcpy(data, blocks_[size_t(root)].data, size_t(bytes));
      return;
    }
    Messages m;
    if (rank_ != root) post_->receive(m, data, bytes, member(root), tag());
    for (int r = 0; rank_ == root && r < size(); r++)
      if (r != root) post_->send(m, data, bytes, member(r), tag());
    post_->wait(m, waits(c.describe()));
  }

  void send(const std::byte* data, int64_t elements, int64_t element_bytes, int to) override {
    post_->check();
    const LetterHead head{elements * element_bytes, element_bytes};
    const auto* bytes = reinterpret_cast<const std::byte*>(&head);
    post_->send_later({bytes, bytes + sizeof head}, member(to), letter_tag());
    post_->send_later({data, data + head.bytes}, member(to), letter_tag());
  }

  void recv(std::byte* data, int64_t elements, int64_t element_bytes, int from) override {
    const Post::Wait w = waits(text("recv from rank ", member(from)));
    LetterHead& head = heads_[size_t(from)];  // kept where the letter is refused
    Messages m;
    if (!head.element_bytes) {
      LetterHead came{};
      post_->receive(m, reinterpret_cast<std::byte*>(&came), sizeof came, member(from), letter_tag());
      post_->wait(m, w);
      head = came;
    }
    if (head.bytes != elements * element_bytes || head.element_bytes != element_bytes)
      fail("[recv] rank ", member(rank_), " expects ", elements, " x ", element_bytes, " bytes from rank ",
           member(from), ", which sent ", head.bytes / head.element_bytes, " x ", head.element_bytes, " bytes");
    post_->receive(m, data, head.bytes, member(from), letter_tag());
    head = {};
    post_->wait(m, w);
  }

  std::shared_ptr<Communicator> split(int color, int key) override {
    Call c(Operation::split);
    c.color = color;
    c.key = key;
    open(c, nullptr);
    std::vector<std::pair<int, int>> order;  // (key, rank) of my colour
    std::vector<int> colors;
    int64_t first = 0;
    for (int r = 0; r < size(); r++) {
      const Block& b = blocks_[size_t(r)];
      first = std::max(first, b.next_group);
      colors.push_back(b.call.color);
      if (b.call.color == color) order.emplace_back(b.call.key, r);
    }
    std::sort(order.begin(), order.end());
    std::sort(colors.begin(), colors.end());
    colors.erase(std::unique(colors.begin(), colors.end()), colors.end());
    post_->next_group = int(first) + int(colors.size());
    if (post_->next_group > Post::kLastGroup) fail("[split] ", Post::kLastGroup, " groups were made, which is all");
    const int mine = int(first + (std::find(colors.begin(), colors.end(), color) - colors.begin()));
    std::vector<int> members;
    for (auto& [k, r] : order) members.push_back(member(r));
    const auto me = std::find(members.begin(), members.end(), member(rank_)) - members.begin();
    return std::make_shared<Mpi>(post_, mine, std::move(members), int(me));
  }

  std::vector<std::string> flight() const override { return flight_.lines(); }
  void leave() override { post_->leave(waits("the end of the others")); }
  void abort(const std::string& why) override { post_->end(why); }

 private:
  int member(int r) const { return members_[size_t(r)]; }
  int tag() const { return 1 + 2 * group_; }
  int letter_tag() const { return 2 + 2 * group_; }
  Post::Wait waits(std::string what) const { return {std::move(what), limit_, &poll_}; }

  // Exchanges the calls, and the data where they fit: then true. Throws the same ValueError everywhere if they differ.
  bool open(const Call& c, const std::byte* data) {
    post_->check();
    const auto start = std::chrono::steady_clock::now();
    const int64_t bytes = c.elements * c.element_bytes;
    Block& mine = blocks_[size_t(rank_)];
    mine.call = c;
    mine.call.context = context_;
    mine.next_group = post_->next_group;
    if (data && bytes && bytes <= kInlineBytes) std::memcpy(mine.data, data, size_t(bytes));
    flight_.begins(mine.call);
    Messages m;
    for (int r = 0; r < size(); r++)
      if (r != rank_) post_->receive(m, as_bytes(blocks_[size_t(r)]), sizeof(Block), member(r), tag());
    for (int r = 0; r < size(); r++)
      if (r != rank_) post_->send(m, as_bytes(mine), sizeof(Block), member(r), tag());
    post_->wait(m, waits(mine.call.describe()));
    flight_.all_came();
    const double waited = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    waiting_ += waited;
    if (m.last >= 0) note_wait(int(std::find(members_.begin(), members_.end(), m.last) - members_.begin()), waited);
    const std::string difference = disagreement(
        size(), [&](int r) -> const Call& { return blocks_[size_t(r)].call; }, [&](int r) { return member(r); });
    if (!difference.empty()) throw ValueError(difference);
    return bytes <= kInlineBytes;
  }
  static std::byte* as_bytes(Block& b) { return reinterpret_cast<std::byte*>(&b); }

  void reduce(const Call& c, std::byte* data, const Merge& merge) {
    const int64_t bytes = c.elements * c.element_bytes;
    folder_.prepare(size(), c.element_bytes);
    if (open(c, data)) {
      folder_.fold(size(), c.elements, c.element_bytes, merge, [&](int r) { return blocks_[size_t(r)].data; }, data);
      return;
    }
    if (bytes <= kWholeBytes || c.elements < size()) {
      std::byte* all = memory(bytes * size());
      gather(c, data, bytes, all);
      folder_.fold(size(), c.elements, c.element_bytes, merge, [&](int r) { return all + r * bytes; }, data);
      return;
    }
    const int64_t most = std::max<int64_t>(size(), kWindowBytes / c.element_bytes);
    // Whole shares of the array, so that rank r keeps its own; each cut into as many turns.
    const int64_t turns = (c.elements + most - 1) / most;
    for (int64_t turn = 0; turn < turns; turn++) reduce_turn(c, data, merge, turn, turns);
  }

  struct Run {
    int64_t begin, count;
  };
  // What rank r folds in one turn.
  Run run_of(const Call& c, int r, int64_t turn, int64_t turns) const {
    const int64_t begin = share(c.elements, r, size()), n = share(c.elements, r + 1, size()) - begin;
    const int64_t from = n * turn / turns, to = n * (turn + 1) / turns;
    return {begin + from, to - from};
  }

  void reduce_turn(const Call& c, std::byte* data, const Merge& merge, int64_t turn, int64_t turns) {
    const int64_t element = c.element_bytes;
    const Run mine = run_of(c, rank_, turn, turns);
    const int64_t bytes = mine.count * element;
    std::byte* own = data + mine.begin * element;
    std::byte* from = memory(bytes * size());
    Messages m;
    for (int r = 0; r < size(); r++)
      if (r != rank_) post_->receive(m, from + r * bytes, bytes, member(r), tag());
    each_peer([&](int r) {
      const Run theirs = run_of(c, r, turn, turns);
      post_->send(m, data + theirs.begin * element, theirs.count * element, member(r), tag());
    });
    const Post::Wait w = waits(c.describe());
    post_->wait(m, w);
    folder_.fold(size(), mine.count, element, merge, [&](int r) { return r == rank_ ? own : from + r * bytes; }, own);
    if (c.operation == Operation::reduce_scatter) return;
    each_peer([&](int r) {
      const Run theirs = run_of(c, r, turn, turns);
      post_->receive(m, data + theirs.begin * element, theirs.count * element, member(r), tag());
    });
    each_peer([&](int r) { post_->send(m, own, bytes, member(r), tag()); });
    post_->wait(m, w);
  }

  // The near ones first, each rank in another order, so that not all write to one at a time.
  template <class Body>
  void each_peer(const Body& body) {
    for (int k = 1; k < size(); k++) body((rank_ + k) % size());
  }

  void gather(const Call& c, const std::byte* mine, int64_t bytes, std::byte* all) {
    Messages m;
    each_peer([&](int r) { post_->receive(m, all + r * bytes, bytes, member(r), tag()); });
    each_peer([&](int r) { post_->send(m, mine, bytes, member(r), tag()); });
    std::memcpy(all + rank_ * bytes, mine, size_t(bytes));
    post_->wait(m, waits(c.describe()));
  }

  std::byte* memory(int64_t bytes) {
    if (int64_t(memory_.size()) < bytes) memory_.resize(size_t(bytes));
    return memory_.data();
  }

  std::shared_ptr<Post> post_;
  const int group_;
  const std::vector<int> members_;  // their ranks in the communicator of MPI
  const int rank_;
  std::vector<Block> blocks_;      // of each rank
  std::vector<LetterHead> heads_;  // by sender
  Folder folder_;
  Flight flight_;
  std::vector<std::byte> memory_;
  double waiting_ = 0;
};

}  // namespace

std::shared_ptr<Communicator> make_mpi(std::unique_ptr<MpiCalls> calls, const std::function<void()>& poll) {
  auto post = std::make_shared<Post>(std::move(calls));
  std::vector<int> members(static_cast<size_t>(post->size()));
  for (int r = 0; r < post->size(); r++) members[size_t(r)] = r;
  const int rank = post->rank();
  auto made = std::make_shared<Mpi>(std::move(post), 0, std::move(members), rank);
  made->on_wait(poll);
  return made;
}

}  // namespace thalweg
