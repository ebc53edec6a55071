// mpi_ranks.h: ranks that send messages to one another; mpi.cpp has their collectives. There are two lanes, for calls
// that wait and for those that were started, with a tag of their own. Whoever holds the mutex of the post office is in
// here: this rank's thread, or the one that goes on with what was started.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstring>

#include "../tensor/error.h"
#include "beside_thread.h"
#include "call.h"
#include "fold.h"
#include "going.h"
#include "post.h"

namespace thalweg {

struct Block {
  Call call;
  int64_t next_group = 0;
  std::byte data[kInlineBytes];
};

struct LetterHead {
  int64_t bytes, element_bytes;
};
// A letter whose head has come, and that nobody has taken; with its data if they came to a call that was given up.
struct Untaken {
  LetterHead head{};
  std::unique_ptr<std::byte[]> data;
};

using Keep = std::shared_ptr<void>;
using Lock = std::lock_guard<std::mutex>;

class Mpi final : public Communicator {
  friend class Nodes;

 public:
  Mpi(std::shared_ptr<Post> post, int group, std::vector<int> members, int rank, std::shared_ptr<Beside> beside)
      : post_(std::move(post)),
        group_(group),
        members_(std::move(members)),
        rank_(rank),
        lanes_{Lane(tag(0), members_.size()), Lane(tag(1), members_.size())},
        untaken_(members_.size()),
        started_(std::move(beside)),
        thread_(post_->mutex(), started_) {}
  ~Mpi() override {
    thread_.stop();
    const Lock lock(post_->mutex());
    started_.drop();
  }
  int rank() const override { return rank_; }
  int size() const override { return int(members_.size()); }
  double seconds_waiting() const override { return waiting_; }
  const std::shared_ptr<Beside>& beside() const { return started_.beside(); }

  void perform(const Ask& ask, const Merge& merge) override {
    const Lock lock(post_->mutex());
    const auto make = [&](const Merge& kept) { return going(0, ask, kept, nullptr); };
    if (is_letter(ask)) started_.run(ask, make);
    else make(merge).run();
  }
  uint64_t start(const Ask& ask, Merge merge, Keep keep) override {
    const Lock lock(post_->mutex());
    const uint64_t ticket =
        started_.add(ask, std::move(merge), keep, [&](const Merge& kept) { return going(1, ask, kept, keep); });
    if (overlap() == Overlap::thread) thread_.wake();
    return ticket;
  }
  bool poll() override {
    const Lock lock(post_->mutex());
    return started_.poll();
  }
  void finish(uint64_t ticket) override {
    const Lock lock(post_->mutex());
    started_.finish(ticket);
  }
  bool is_finished(uint64_t ticket) const override {
    const Lock lock(post_->mutex());
    return started_.is_finished(ticket);
  }

  std::shared_ptr<Communicator> split(int color, int key) override;

  std::vector<std::string> flight() const override {
    const Lock lock(post_->mutex());
    return flight_.lines();
  }
  void leave() override {
    thread_.stop();
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
    if (overlap != Overlap::thread) thread_.stop();
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
      if (!messages.all.empty()) mpi.post_->give_up(messages, std::move(keep), mpi.waits(what));
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
        mpi.note_wait(late(int(std::find(all.begin(), all.end(), messages.last) - all.begin())), waited);
    }
    bool rings() const final { return false; }
    void look() final { mpi.post_->look(messages, mpi.waits(what), 0); }
    virtual int late(int sender) const { return sender; }  // who kept those waiting that a message came to
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
    int late(int sender) const override {
      const int last = lane.blocks[size_t(sender)].call.last;
      return last >= 0 ? last : sender;
    }
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

  // Of a letter's data. If the call is given up, the letter stays its sender's next; beyond 1 GiB it is several
  // messages, and if only some of them have come, all ranks end.
  struct Taking final : Arrival {
    Taking(Mpi& mpi, const Call& c, Keep keep, std::byte* data, Untaken& letter);
    ~Taking();
    bool keeps_data();
    std::byte* data;
    Untaken& letter;
    int parts;
  };

  int member(int r) const { return members_[size_t(r)]; }
  int tag(int use) const { return 1 + 3 * group_ + use; }  // of the two lanes, and of letters
  Post::Wait waits(std::string what) {
    return {std::move(what), limit_, &poll_, [this] { started_.beside()->progress(); }};
  }
  Call called(const Ask& a, bool started) const {
    Call c(a.operation, a.elements, a.element_bytes, is_letter(a) ? member(a.peer) : a.peer);
    c.started = started;
    c.context = context_;
    return c;
  }
  static bool is_inline(const Call& c) { return c.bytes() <= kInlineBytes; }
  Going going(int lane, const Ask& ask, const Merge& merge, const Keep& keep);
  Going open(Lane& lane, Call c);
  Going reduce(Lane& lane, Call c, std::byte* data, const Merge& merge, Keep keep);
  Going gather(Lane& lane, Call c, const std::byte* mine, std::byte* all, Keep keep);
  Going spread(Lane& lane, Call c, std::byte* data, Keep keep);
  // A letter is two messages, its head and its data.
  Going send_letter(Call c, const std::byte* data, Keep keep);
  Going receive(Call c, std::byte* data, int from, Keep keep);

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
  // Long messages to and from each. A receive that finds its message announced asks for the data at once. If this
  // rank's own announcement came after that, the peer would ask for its data behind those it sends, where all it sends
  // here is one stream (Open MPI over TCP): one direction after the other, in twice the time. Short ones ask for
  // nothing.
  template <class Give, class Take>
  void trade(const Give& give, const Take& take) const {
    each_peer(give);
    each_peer(take);
  }
  void receive(Messages& m, const Lane& lane, std::byte* data, int64_t bytes, int from) {
    post_->receive(m, data, bytes, member(from), lane.tag);
  }
  void send(Messages& m, const Lane& lane, const std::byte* data, int64_t bytes, int to) {
    bytes_sent_ += bytes;
    post_->send(m, data, bytes, member(to), lane.tag);
  }
  void send_everything(Messages& m, const Lane& lane, const std::byte* mine, int64_t bytes, std::byte* all);

  std::shared_ptr<Post> post_;
  const int group_;
  const std::vector<int> members_;  // their ranks in the communicator of MPI
  const int rank_;
  Lane lanes_[kLanes];
  std::vector<Untaken> untaken_;  // by sender
  Flight flight_;
  double waiting_ = 0;
  Started started_;
  BesideThread thread_;
};

}  // namespace thalweg
