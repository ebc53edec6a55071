// mpi.cpp: collectives from messages between two ranks. Every collective begins with a block from each rank to each
// other: its call, and its data where they fit. Larger sums: each rank gets its share of everybody's data, folds it in
// the tree, and sends it to all: 2 (P - 1) / P of the payload per rank and direction, the least there can be.
#include "mpi.h"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <thread>

#include "../tensor/error.h"
#include "call.h"
#include "fold.h"
#include "going.h"
#include "post.h"

namespace thalweg {
namespace {

constexpr int64_t kInlineBytes = 512;       // of data that go along with the call
constexpr int64_t kWindowBytes = 32 << 20;  // of a sum under way at a time: as much memory is taken for it
constexpr auto kThreadPause = std::chrono::microseconds(100);  // between two looks of the thread for started calls

struct Block {
  Call call;
  int64_t next_group = 0;
  std::byte data[kInlineBytes];
};

struct LetterHead {
  int64_t bytes, element_bytes;
};

using Keep = std::shared_ptr<void>;
using Lock = std::lock_guard<std::mutex>;

class Mpi final : public Communicator {
 public:
  Mpi(std::shared_ptr<Post> post, int group, std::vector<int> members, int rank, std::shared_ptr<Beside> beside)
      : post_(std::move(post)),
        group_(group),
        members_(std::move(members)),
        rank_(rank),
        lanes_{Lane(tag(0), members_.size()), Lane(tag(1), members_.size())},
        heads_(members_.size()),
        started_(std::move(beside)) {}
  ~Mpi() override {
    stop_thread();
    const Lock lock(post_->mutex());
    started_.drop();
  }
  int rank() const override { return rank_; }
  int size() const override { return int(members_.size()); }
  double seconds_waiting() const override { return waiting_; }

  void barrier() override { run(open(lanes_[0], called(Operation::barrier, 0, 0))); }

  void all_reduce(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) override {
    run(reduce(lanes_[0], called(Operation::all_reduce, elements, element_bytes), data, merge, nullptr));
  }
  void reduce_scatter(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) override {
    run(reduce(lanes_[0], called(Operation::reduce_scatter, elements, element_bytes), data, merge, nullptr));
  }
  void all_gather(const std::byte* mine, int64_t elements, int64_t element_bytes, std::byte* all) override {
    run(gather(lanes_[0], called(Operation::all_gather, elements, element_bytes), mine, all));
  }
  void broadcast(std::byte* data, int64_t elements, int64_t element_bytes, int root) override {
    run(spread(lanes_[0], called(Operation::broadcast, elements, element_bytes, root), data));
  }

  uint64_t start_all_reduce(std::byte* data, int64_t elements, int64_t element_bytes, Merge merge, Keep keep) override {
    const Call c = called(Operation::start_all_reduce, elements, element_bytes);
    const Lock lock(post_->mutex());
    const uint64_t ticket =
        started_.add(std::move(merge), keep, [&](const Merge& kept) { return reduce(lanes_[1], c, data, kept, keep); });
    if (overlap() == Overlap::thread) wake_thread();
    return ticket;
  }
  bool poll() override {
    const Lock lock(post_->mutex());
    started_.progress();
    started_.check();
    return started_.empty();
  }
  void finish(uint64_t ticket) override {
    const Lock lock(post_->mutex());
    started_.finish(ticket);
  }
  bool is_finished(uint64_t ticket) const override {
    const Lock lock(post_->mutex());
    return started_.done() >= ticket;
  }

  void send(const std::byte* data, int64_t elements, int64_t element_bytes, int to) override {
    const Lock lock(post_->mutex());
    post_->check();
    const LetterHead head{elements * element_bytes, element_bytes};
    const auto* bytes = reinterpret_cast<const std::byte*>(&head);
    post_->send_later({bytes, bytes + sizeof head}, member(to), tag(2));
    post_->send_later({data, data + head.bytes}, member(to), tag(2));
  }

  void recv(std::byte* data, int64_t elements, int64_t element_bytes, int from) override {
    const Lock lock(post_->mutex());
    const Post::Wait w = waits(text("recv from rank ", member(from)));
    LetterHead& head = heads_[size_t(from)];  // kept where the letter is refused
    if (!head.element_bytes) {
      auto came = std::make_shared<LetterHead>();
      Arrival a(*this, came, w.what);
      post_->receive(a.messages, reinterpret_cast<std::byte*>(came.get()), sizeof *came, member(from), tag(2));
      a.wait();
      head = *came;
    }
    if (head.bytes != elements * element_bytes || head.element_bytes != element_bytes)
      fail("[recv] rank ", member(rank_), " expects ", elements, " x ", element_bytes, " bytes from rank ",
           member(from), ", which sent ", head.bytes / head.element_bytes, " x ", head.element_bytes, " bytes");
    Arrival a(*this, nullptr, w.what);
    post_->receive(a.messages, data, head.bytes, member(from), tag(2));
    head = {};
    a.wait();
  }

  std::shared_ptr<Communicator> split(int color, int key) override;

  std::vector<std::string> flight() const override {
    const Lock lock(post_->mutex());
    return flight_.lines();
  }
  void leave() override {
    stop_thread();
    const Lock lock(post_->mutex());
    if (!started_.empty())
      post_->end(text("rank ", member(rank_), " has left before what it had started was finished"));
    post_->leave(waits("the end of the others"));
  }
  void abort(const std::string& why) override {
    const Lock lock(post_->mutex());
    post_->end(why);
  }
  void set_overlap(Overlap overlap) override {
    if (overlap != Overlap::thread) stop_thread();
    Communicator::set_overlap(overlap);
  }
  // threads: whether this MPI can be called by one thread after another.
  void choose_overlap(bool threads) {
    if (overlap_is_given_ && overlap() == Overlap::thread && !threads)
      fail("[overlap] THALWEG_OVERLAP is thread, but this MPI was started for one thread alone: expected off or nodes");
    if (!overlap_is_given_) set_overlap(threads ? Overlap::thread : Overlap::nodes);
  }

 private:
  struct Lane {
    Lane(int tag, size_t ranks) : tag(tag), blocks(ranks) {}
    const int tag;
    std::vector<Block> blocks;  // of each rank
    Folder folder;
    std::vector<std::byte> all;
    std::byte* memory(int64_t bytes) {
      if (int64_t(all.size()) < bytes) all.resize(size_t(bytes));
      return all.data();
    }
  };

  // Messages of this rank under way.
  struct Arrival : Awaited {
    Arrival(Mpi& mpi, Keep keep, std::string what) : mpi(mpi), keep(std::move(keep)), what(std::move(what)) {}
    Arrival(const Arrival&) = delete;
    Arrival& operator=(const Arrival&) = delete;
    ~Arrival() {
      if (!messages.all.empty()) mpi.post_->give_up(messages, std::move(keep));
    }
    bool ready() final { return mpi.post_->progress(messages); }
    void wait() final {
      const auto start = std::chrono::steady_clock::now();
      mpi.post_->wait(messages, mpi.waits(what));
      if (!opens) return;
      const double waited = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      mpi.waiting_ += waited;
      const std::vector<int>& all = mpi.members_;
      if (messages.last >= 0)
        mpi.note_wait(int(std::find(all.begin(), all.end(), messages.last) - all.begin()), waited);
    }
    bool opens = false;
    Mpi& mpi;
    Messages messages;
    Keep keep;
    std::string what;
  };
  // Of the calls, and of data that fit along with them.
  struct Opening final : Arrival {
    Opening(Mpi& mpi, Lane& lane, const Call& c, const std::byte* data, Keep keep);
    void result();
    Lane& lane;
    uint64_t event;
  };
  // Of what post(messages) sends and receives.
  struct Exchange final : Arrival {
    template <class F>
    Exchange(Mpi& mpi, const Call& c, Keep keep, const F& post) : Arrival(mpi, std::move(keep), c.describe()) {
      post(messages);
    }
  };

  int member(int r) const { return members_[size_t(r)]; }
  int tag(int use) const { return 1 + 3 * group_ + use; }  // of the two lanes, and of letters
  Post::Wait waits(std::string what) {
    return {std::move(what), limit_, &poll_, [this] { started_.beside()->progress(); }};
  }
  Call called(Operation operation, int64_t elements, int64_t element_bytes, int root = 0) const {
    Call c(operation, elements, element_bytes, root);
    c.context = context_;
    return c;
  }
  static bool is_inline(const Call& c) { return c.elements * c.element_bytes <= kInlineBytes; }
  void run(Going going) {
    const Lock lock(post_->mutex());
    going.run();
  }

  Going open(Lane& lane, Call c);
  Going reduce(Lane& lane, Call c, std::byte* data, const Merge& merge, Keep keep);
  Going gather(Lane& lane, Call c, const std::byte* mine, std::byte* all);
  Going spread(Lane& lane, Call c, std::byte* data);

  struct Run {
    int64_t begin, count;
  };
  // What rank r folds in one turn.
  Run run_of(const Call& c, int r, int64_t turn, int64_t turns) const {
    const int64_t begin = share(c.elements, r, size()), n = share(c.elements, r + 1, size()) - begin;
    const int64_t from = n * turn / turns, to = n * (turn + 1) / turns;
    return {begin + from, to - from};
  }
  // The near ones first, each rank in another order, so that not all write to one at a time.
  template <class Body>
  void each_peer(const Body& body) const {
    for (int k = 1; k < size(); k++) body((rank_ + k) % size());
  }
  void receive(Messages& m, const Lane& lane, std::byte* data, int64_t bytes, int from) {
    post_->receive(m, data, bytes, member(from), lane.tag);
  }
  void send(Messages& m, const Lane& lane, const std::byte* data, int64_t bytes, int to) {
    bytes_sent_ += bytes;
    post_->send(m, data, bytes, member(to), lane.tag);
  }
  void send_everything(Messages& m, const Lane& lane, const std::byte* mine, int64_t bytes, std::byte* all);

  void wake_thread();
  void stop_thread();
  void go_on_beside();

  std::shared_ptr<Post> post_;
  const int group_;
  const std::vector<int> members_;  // their ranks in the communicator of MPI
  const int rank_;
  Lane lanes_[kLanes];
  std::vector<LetterHead> heads_;  // by sender
  Flight flight_;
  double waiting_ = 0;
  Started started_;
  std::thread thread_;  // goes on with what was started; there once something was
  std::condition_variable wake_;
  bool stop_ = false;
};

Mpi::Opening::Opening(Mpi& mpi, Lane& lane, const Call& c, const std::byte* data, Keep keep)
    : Arrival(mpi, std::move(keep), c.describe()), lane(lane), event(mpi.flight_.begins(c)) {
  opens = true;
  mpi.post_->check();
  const int64_t bytes = c.elements * c.element_bytes;
  Block& mine = lane.blocks[size_t(mpi.rank_)];
  mine.call = c;
  mine.next_group = mpi.post_->next_group;
  if (data && bytes && is_inline(c)) {
    std::memcpy(mine.data, data, size_t(bytes));
    mpi.bytes_sent_ += bytes * (mpi.size() - 1);
  }
  auto raw = [&](int r) { return reinterpret_cast<std::byte*>(&lane.blocks[size_t(r)]); };
  mpi.each_peer([&](int r) { mpi.post_->receive(messages, raw(r), sizeof(Block), mpi.member(r), lane.tag); });
  mpi.each_peer([&](int r) { mpi.post_->send(messages, raw(mpi.rank_), sizeof(Block), mpi.member(r), lane.tag); });
}

void Mpi::Opening::result() {
  mpi.flight_.all_came(event);
  const std::string difference = disagreement(
      mpi.size(), [&](int r) -> const Call& { return lane.blocks[size_t(r)].call; },
      [&](int r) { return mpi.member(r); });
  if (!difference.empty()) throw ValueError(difference);  // every rank has found the same
}

Going Mpi::open(Lane& lane, Call c) { co_await Until<Opening>(*this, lane, c, nullptr, nullptr); }

Going Mpi::reduce(Lane& lane, Call c, std::byte* data, const Merge& merge, Keep keep) {
  const int64_t element = c.element_bytes, bytes = c.elements * element;
  lane.folder.prepare(size(), element);
  co_await Until<Opening>(*this, lane, c, data, keep);
  if (is_inline(c)) {
    lane.folder.fold(size(), c.elements, element, merge, [&](int r) { return lane.blocks[size_t(r)].data; }, data);
    co_return;
  }
  if (bytes <= kSmallBytes || c.elements < size()) {  // every rank gets all data: one turn less
    std::byte* all = lane.memory(bytes * size());
    const auto post = [&](Messages& m) { send_everything(m, lane, data, bytes, all); };
    co_await Until<Exchange>(*this, c, keep, post);
    lane.folder.fold(size(), c.elements, element, merge, [&](int r) { return all + r * bytes; }, data);
    co_return;
  }
  const int64_t most = std::max<int64_t>(size(), kWindowBytes / element);
  // Whole shares of the array, so that rank r keeps its own; each cut into as many turns.
  const int64_t turns = (c.elements + most - 1) / most;
  for (int64_t turn = 0; turn < turns; turn++) {
    const Run mine = run_of(c, rank_, turn, turns);
    const int64_t part = mine.count * element;
    std::byte *own = data + mine.begin * element, *from = lane.memory(part * size());
    const auto scatter = [&](Messages& m) {
      each_peer([&](int r) { receive(m, lane, from + r * part, part, r); });
      each_peer([&](int r) {
        const Run theirs = run_of(c, r, turn, turns);
        send(m, lane, data + theirs.begin * element, theirs.count * element, r);
      });
    };
    co_await Until<Exchange>(*this, c, keep, scatter);
    lane.folder.fold(
        size(), mine.count, element, merge, [&](int r) { return r == rank_ ? own : from + r * part; }, own);
    if (c.operation == Operation::reduce_scatter) continue;
    const auto gather = [&](Messages& m) {
      each_peer([&](int r) {
        const Run theirs = run_of(c, r, turn, turns);
        receive(m, lane, data + theirs.begin * element, theirs.count * element, r);
      });
      each_peer([&](int r) { send(m, lane, own, part, r); });
    };
    co_await Until<Exchange>(*this, c, keep, gather);
  }
}

void Mpi::send_everything(Messages& m, const Lane& lane, const std::byte* mine, int64_t bytes, std::byte* all) {
  each_peer([&](int r) { receive(m, lane, all + r * bytes, bytes, r); });
  each_peer([&](int r) { send(m, lane, mine, bytes, r); });
  std::memcpy(all + rank_ * bytes, mine, size_t(bytes));
}

Going Mpi::gather(Lane& lane, Call c, const std::byte* mine, std::byte* all) {
  const int64_t bytes = c.elements * c.element_bytes;
  co_await Until<Opening>(*this, lane, c, mine, nullptr);
  if (is_inline(c)) {
    for (int r = 0; bytes && r < size(); r++) std::memcpy(all + r * bytes, lane.blocks[size_t(r)].data, size_t(bytes));
    co_return;
  }
  const auto post = [&](Messages& m) { send_everything(m, lane, mine, bytes, all); };
  co_await Until<Exchange>(*this, c, nullptr, post);
}

// From the root.
Going Mpi::spread(Lane& lane, Call c, std::byte* data) {
  const int64_t bytes = c.elements * c.element_bytes;
  co_await Until<Opening>(*this, lane, c, rank_ == c.root ? data : nullptr, nullptr);
  if (is_inline(c)) {
    if (bytes && rank_ != c.root) std::memcpy(data, lane.blocks[size_t(c.root)].data, size_t(bytes));
    co_return;
  }
  const auto post = [&](Messages& m) {
    if (rank_ != c.root) receive(m, lane, data, bytes, c.root);
    else each_peer([&](int r) { send(m, lane, data, bytes, r); });
  };
  co_await Until<Exchange>(*this, c, nullptr, post);
}

std::shared_ptr<Communicator> Mpi::split(int color, int key) {
  Call c = called(Operation::split, 0, 0);
  c.color = color;
  c.key = key;
  run(open(lanes_[0], c));
  std::vector<std::pair<int, int>> order;  // (key, rank) of my colour
  std::vector<int> colors;
  int64_t first = 0;
  for (int r = 0; r < size(); r++) {
    const Block& b = lanes_[0].blocks[size_t(r)];
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
  auto made = std::make_shared<Mpi>(post_, mine, std::move(members), int(me), started_.beside());
  made->set_overlap(overlap());
  return made;
}

// Started calls go on by themselves: the thread looks after them, and leaves the core between two looks.
void Mpi::wake_thread() {
  if (!thread_.joinable()) {
    stop_ = false;
    thread_ = std::thread([this] { go_on_beside(); });
  }
  wake_.notify_one();
}

void Mpi::stop_thread() {
  if (!thread_.joinable()) return;
  {
    const Lock lock(post_->mutex());
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Mpi::go_on_beside() {
  std::unique_lock lock(post_->mutex());
  while (!stop_) {
    if (started_.empty()) {
      wake_.wait(lock, [this] { return stop_ || !started_.empty(); });
      continue;
    }
    started_.progress();
    lock.unlock();
    std::this_thread::sleep_for(kThreadPause);
    lock.lock();
  }
}

}  // namespace

std::shared_ptr<Communicator> make_mpi(std::unique_ptr<MpiCalls> calls, const std::function<void()>& poll,
                                       bool threads) {
  auto post = std::make_shared<Post>(std::move(calls));
  std::vector<int> members(static_cast<size_t>(post->size()));
  for (int r = 0; r < post->size(); r++) members[size_t(r)] = r;
  const int rank = post->rank();
  auto made = std::make_shared<Mpi>(std::move(post), 0, std::move(members), rank, std::make_shared<Beside>());
  made->on_wait(poll);
  made->choose_overlap(threads);
  return made;
}

}  // namespace thalweg
