// nodes.cpp: each collective is one inside the node with another among nodes in its midst. Ranks of a node see at once
// whether they make the same call; what they find wrong, or what nodes find that differ, all ranks then look at.
#include "nodes.h"

#include <map>

#include "mpi_ranks.h"
#include "shm.h"

namespace thalweg {
namespace {

constexpr double kNodeSeconds = 1;  // more than inside a node, where it is known who is missing

}  // namespace

class Nodes final : public Communicator {
 public:
  // outer: among ranks of this rank's place; null where all ranks are on one node, of several that have others.
  Nodes(std::shared_ptr<Mpi> all, std::shared_ptr<Visible> inner, std::shared_ptr<Mpi> outer,
        std::function<void()> poll)
      : all_(std::move(all)),
        inner_(std::move(inner)),
        outer_(std::move(outer)),
        first_(all_->rank() - inner_->rank()),
        counted_bytes_(bytes()),
        started_(all_->started_.beside()),
        thread_(all_->post_->mutex(), started_) {
    set_overlap(all_->overlap());
    on_wait(std::move(poll));
    inner_->among_nodes_ = outer_ != nullptr;
    inner_->on_wait([post = all_->post_, poll = poll_] {
      poll();
      post->hear();
    });
    for (Mpi* messages : {all_.get(), outer_.get()})
      if (messages) look_while_waiting(*messages);
  }
  ~Nodes() override {
    thread_.stop();
    const Lock lock(all_->post_->mutex());
    started_.drop();
  }
  static std::shared_ptr<Communicator> of(std::shared_ptr<Mpi> all, std::shared_ptr<Visible> inner,
                                          const std::function<void()>& poll);

  int rank() const override { return all_->rank(); }
  int size() const override { return all_->size(); }
  double seconds_waiting() const override {
    return inner_->seconds_waiting() + (outer_ ? outer_->seconds_waiting() : 0);
  }

  void perform(const Ask& ask, const Merge& merge) override {
    hand_down();
    guarded([&] {
      const auto make = [&](const Merge& kept) { return going(0, ask, kept, nullptr); };
      if (is_letter(ask)) started_.run(ask, make);
      else make(merge).run();
    });
  }
  uint64_t start(const Ask& ask, Merge merge, Keep keep) override {
    hand_down();
    const Lock lock(all_->post_->mutex());
    const uint64_t ticket =
        started_.add(ask, std::move(merge), keep, [&](const Merge& kept) { return going(1, ask, kept, keep); });
    if (overlap() == Overlap::thread) thread_.wake();
    return ticket;
  }
  bool poll() override {
    bool over = false;
    guarded([&] { over = started_.poll(); });
    return over;
  }
  void finish(uint64_t ticket) override {
    hand_down();
    guarded([&] { started_.finish(ticket); });
  }
  bool is_finished(uint64_t ticket) const override {
    const Lock lock(all_->post_->mutex());
    return started_.is_finished(ticket);
  }

  std::shared_ptr<Communicator> split(int color, int key) override;

  void leave() override {
    thread_.stop();
    if (!started_.empty())
      abort(text("rank ", all_->member(rank()), " has left before what it had started was finished"));
    inner_->left();
    try {
      all_->leave();
    } catch (const Lost& lost) { abort(lost.what()); }
  }
  void abort(const std::string& why) override {
    inner_->abort(why);
    all_->abort(why);
  }
  std::shared_ptr<std::byte> take(int64_t bytes) override { return inner_->take(bytes); }
  std::vector<std::string> flight() const override {
    const Lock lock(all_->post_->mutex());
    std::vector<std::pair<const Flight*, const char*>> flights{{&inner_->flight_, " on this node"}};
    if (outer_) flights.emplace_back(&outer_->flight_, " among nodes");
    return Flight::lines(flights);
  }
  void set_overlap(Overlap overlap) override {
    if (overlap != Overlap::thread) thread_.stop();
    Communicator::set_overlap(overlap);
  }

 private:
  int places() const { return inner_->size(); }
  int nodes() const { return outer_ ? outer_->size() : 1; }

  Call called(Ask ask, bool started) const {
    ask.stripes = {}, ask.summed = nullptr;  // rank r's share is the node's
    Call c = inner_->call_of(ask, started);
    c.context = context_;
    return c;
  }
  // The part of a call that is made among nodes.
  Call among(int lane, const Call& c, int64_t elements) const {
    Call part = c;
    part.whole = c.elements;
    part.whole_root = c.root;
    part.elements = elements;
    part.root = c.root / places();
    part.in_place = 0;
    part.last = first_ + inner_->last(lane);
    return part;
  }

  Going going(int lane, const Ask& ask, const Merge& merge, const Keep& keep);
  Going fold(int lane, Call c, bool& asked, std::byte* data, const Merge& merge, Keep keep);
  Going meet(int lane, Call c, bool& asked);
  Going gather(int lane, Call c, bool& asked, const std::byte* mine, std::byte* all, Keep keep);
  Going spread(int lane, Call c, bool& asked, std::byte* data, Keep keep);

  // A call on both levels: part(..., asked, ...) notes in `asked` that it has asked other nodes.
  template <class F, class... A>
  Going together(int lane, Call c, F part, A... a) {
    bool asked = false;
    std::string difference;
    try {
      co_await Until<Part>((this->*part)(lane, c, asked, a...));
    } catch (const Disagreement& found) { difference = found.what(); }
    if (!difference.empty()) co_await Until<Part>(tell(lane, c, asked, difference));
  }
  Going tell(int lane, Call c, bool asked, std::string difference);

  // A rank that loses others ends all: they may wait for it on either level.
  template <class F>
  void ends_all(const F& body) {
    try {
      body();
    } catch (const Lost& lost) {
      abort(lost.what());
      throw;
    }
  }
  template <class F>
  void guarded(const F& body) {
    ends_all([&] {
      const Lock lock(all_->post_->mutex());
      body();
      count();
    });
  }
  void hand_down() {
    inner_->limit_waits(limit_);
    all_->limit_waits(limit_ + kNodeSeconds);
    if (outer_) outer_->limit_waits(limit_ + kNodeSeconds);
  }
  void look_while_waiting(Mpi& messages) const {
    messages.on_wait([inner = inner_, poll = poll_] {
      poll();
      inner->look();
    });
  }
  int64_t bytes() const { return inner_->bytes_sent() + all_->bytes_sent() + (outer_ ? outer_->bytes_sent() : 0); }
  void count();

  const std::shared_ptr<Mpi> all_;
  const std::shared_ptr<Visible> inner_;
  const std::shared_ptr<Mpi> outer_;
  const int first_;  // of this node's ranks
  int64_t counted_bytes_;
  std::vector<double> counted_waits_;
  Started started_;
  BesideThread thread_;
};

// Letters are messages.
Going Nodes::going(int lane, const Ask& a, const Merge& merge, const Keep& keep) {
  if (is_letter(a)) return all_->going(lane, a, merge, keep);
  const Call c = called(a, lane == 1);
  switch (a.operation) {
    case Operation::all_gather: return together(lane, c, &Nodes::gather, a.data, a.all, keep);
    case Operation::broadcast: return together(lane, c, &Nodes::spread, a.data, keep);
    case Operation::barrier: return together(lane, c, &Nodes::meet);
    default: return together(lane, c, &Nodes::fold, a.data, std::cref(merge), keep);
  }
}

// Ranks inside a node are counted from its first one, nodes by their ranks.
Going Nodes::fold(int lane, Call c, bool& asked, std::byte* data, const Merge& merge, Keep keep) {
  const auto scaled = [&merge](int first, int each) -> Merge {
    return [&merge, first, each](std::byte* into, Ranks a, const std::byte* from, Ranks b, int64_t count) {
      merge(into, {first + a.first * each, first + a.last * each}, from,
            {first + b.first * each, first + b.last * each}, count);
    };
  };
  const Merge inside = scaled(first_, 1), outside = scaled(0, places());
  Across across = [&](std::byte* share, int64_t elements) {
    asked = true;
    return outer_->reduce(outer_->lanes_[lane], among(lane, c, elements), share, outside, keep);
  };
  if (!outer_) across = nullptr;
  co_await Until<Part>(inner_->reduce(inner_->lanes_[lane], c, {c.operation, data}, inside, keep, across));
}

Going Nodes::meet(int lane, Call c, bool& asked) {
  co_await Until<Part>(inner_->open(inner_->lanes_[lane], c));
  asked = true;
  if (outer_) co_await Until<Part>(outer_->open(outer_->lanes_[lane], among(lane, c, c.elements)));
}

// First those of one place, then the places: what leaves a node leaves it once for each other node.
Going Nodes::gather(int lane, Call c, bool& asked, const std::byte* mine, std::byte* all, Keep keep) {
  if (!outer_) {
    co_await Until<Part>(inner_->gather(inner_->lanes_[lane], c, mine, all, keep));
    co_return;
  }
  co_await Until<Part>(inner_->open(inner_->lanes_[lane], c));
  asked = true;
  const int64_t bytes = c.bytes();
  std::vector<std::byte> of_place(size_t(nodes() * bytes)), of_all(size_t(size() * bytes));
  co_await Until<Part>(outer_->gather(outer_->lanes_[lane], among(lane, c, c.elements), mine, of_place.data(), keep));
  Call inside = c;
  inside.elements *= nodes();
  inside.in_place = 0;
  co_await Until<Part>(inner_->gather(inner_->lanes_[lane], inside, of_place.data(), of_all.data(), keep));
  for (int r = 0; bytes && r < size(); r++) {
    const int from = r % places() * nodes() + r / places();
    std::memcpy(all + r * bytes, of_all.data() + from * bytes, size_t(bytes));
  }
}

// Among the ranks of the root's place, then from them inside the nodes.
Going Nodes::spread(int lane, Call c, bool& asked, std::byte* data, Keep keep) {
  co_await Until<Part>(inner_->open(inner_->lanes_[lane], c));
  asked = true;
  Call inside = c;
  inside.root = c.root % places();
  if (outer_) {
    Mpi::Lane& outside = outer_->lanes_[lane];
    const Call part = among(lane, c, c.elements);
    const bool mine = inner_->rank() == inside.root;
    Going going = mine ? outer_->spread(outside, part, data, keep) : outer_->open(outside, part);
    co_await Until<Part>(std::move(going));
  }
  co_await Until<Part>(inner_->spread(inner_->lanes_[lane], inside, data, keep));
}

// Ranks differ. Who found it inside the node lets the other nodes find it too; then all see what all call.
Going Nodes::tell(int lane, Call c, bool asked, std::string difference) {
  if (!asked && outer_) {
    Call unlike = among(lane, c, c.elements);
    unlike.whole_root = -1;
    try {
      co_await Until<Part>(outer_->open(outer_->lanes_[lane], unlike));
    } catch (const Disagreement&) {}  // or all nodes have found one
  }
  co_await Until<Part>(all_->open(all_->lanes_[lane], c));
  throw Disagreement(difference);
}

void Nodes::count() {
  const int64_t sent = bytes();
  bytes_sent_ += sent - std::exchange(counted_bytes_, sent);
  const std::span<const double> inside = inner_->waited_for();
  const std::span<const double> others = outer_ ? outer_->waited_for() : std::span<const double>();
  counted_waits_.resize(size_t(size()));
  for (size_t r = 0; r < counted_waits_.size(); r++) {
    const size_t place = r - size_t(first_);  // far beyond the node for ranks before it
    const double now = (place < inside.size() ? inside[place] : 0) + (r < others.size() ? others[r] : 0);
    if (now > counted_waits_[r]) note_wait(int(r), now - counted_waits_[r]);
    counted_waits_[r] = now;
  }
}

std::shared_ptr<Communicator> Nodes::split(int color, int key) {
  std::shared_ptr<Communicator> made;
  hand_down();
  guarded([&] { together(0, called({Operation::split}, false), &Nodes::meet).run(); });
  ends_all([&] {
    auto all = std::dynamic_pointer_cast<Mpi>(all_->split(color, key));
    look_while_waiting(*all);
    std::shared_ptr<Communicator> inner;
    {
      const Lock lock(all_->post_->mutex());
      inner = inner_->split(color, key);
    }
    made = of(std::move(all), std::dynamic_pointer_cast<Visible>(inner), poll_);
  });
  made->set_overlap(overlap());
  made->limit_waits(limit_);
  return made;
}

// Ranks of which not all can be folded node by node send messages.
std::shared_ptr<Communicator> Nodes::of(std::shared_ptr<Mpi> all, std::shared_ptr<Visible> inner,
                                        const std::function<void()>& poll) {
  const int mine = inner->member(0);
  std::vector<int> node(static_cast<size_t>(all->size()));
  all->all_gather(reinterpret_cast<const std::byte*>(&mine), 1, sizeof mine, reinterpret_cast<std::byte*>(node.data()));
  const int places = int(std::count(node.begin(), node.end(), mine)), nodes = all->size() / places;
  if (!why_flat(node).empty() || places == 1) return all;
  std::shared_ptr<Mpi> outer;
  if (nodes > 1) outer = std::dynamic_pointer_cast<Mpi>(all->split(inner->rank(), all->rank()));
  return std::make_shared<Nodes>(std::move(all), std::move(inner), std::move(outer), poll);
}

std::string why_flat(const std::vector<int>& node) {
  std::map<int, int> ranks;
  for (size_t r = 0; r < node.size(); r++)
    if (ranks[node[r]]++ && node[r - 1] != node[r])
      return text("rank ", r, " is on another node than rank ", r - 1, ", and on one with ranks before that");
  const int each = ranks.begin()->second;
  for (auto& [n, count] : ranks)
    if (count != each) return text("one node has ", each, " ranks and another ", count);
  if (ranks.size() > 1 && (each & (each - 1))) return text("each node has ", each, " ranks, which is no power of two");
  return "";
}

std::shared_ptr<Communicator> make_nodes(const std::shared_ptr<Communicator>& messages,
                                         std::shared_ptr<NodeMemory> memory, int place, double limit,
                                         const std::function<void()>& poll) {
  auto all = std::dynamic_pointer_cast<Mpi>(messages);
  if (!all) fail("[nodes] the ranks of all nodes must be connected by messages");
  auto inner = make_shm(std::move(memory), place, limit, poll, all->beside());
  return Nodes::of(std::move(all), std::move(inner), poll);
}

}  // namespace thalweg
