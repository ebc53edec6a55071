// mpi.cpp: collectives from messages between two ranks. Every collective begins with a block from each rank to each
// other: its call, and its data where they fit. Larger sums: each rank gets its share of everybody's data, folds it in
// the tree, and sends it to all: 2 (P - 1) / P of the payload per rank and direction, the least there can be.
#include "mpi.h"

#include "mpi_ranks.h"

namespace thalweg {
namespace {

constexpr int64_t kWindowBytes = 32 << 20;  // of a sum under way at a time: as much memory is taken for it

}  // namespace

Mpi::Opening::Opening(Mpi& mpi, Lane& lane, const Call& c, const std::byte* data, Keep keep)
    : Arrival(mpi, std::move(keep), c.describe()), lane(lane), event(mpi.flight_.begins(c)) {
  opens = true;
  mpi.post_->check();
  const int64_t bytes = c.bytes();
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
  if (!difference.empty()) throw Disagreement(difference);  // every rank has found the same
}

Going Mpi::going(int number, const Ask& a, const Merge& merge, const Keep& keep) {
  const Call c = called(a, number == 1);
  Lane& lane = lanes_[number];
  switch (a.operation) {
    case Operation::all_reduce:
    case Operation::reduce_scatter: return reduce(lane, c, a.data, merge, keep);
    case Operation::all_gather: return gather(lane, c, a.data, a.all, keep);
    case Operation::broadcast: return spread(lane, c, a.data, keep);
    case Operation::send: count_letter(c.bytes(), a.peer); return send_letter(c, a.data, keep);
    case Operation::recv: return receive(c, a.data, a.peer, keep);
    default: return open(lane, c);
  }
}

Going Mpi::open(Lane& lane, Call c) { co_await Until<Opening>(*this, lane, c, nullptr, nullptr); }

Going Mpi::reduce(Lane& lane, Call c, std::byte* data, const Merge& merge, Keep keep) {
  const int64_t element = c.element_bytes, bytes = c.bytes();
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
      const auto give = [&](int r) {
        const Run theirs = run_of(c, r, turn, turns);
        send(m, lane, data + theirs.begin * element, theirs.count * element, r);
      };
      trade(give, [&](int r) { receive(m, lane, from + r * part, part, r); });
    };
    co_await Until<Exchange>(*this, c, keep, scatter);
    lane.folder.fold(
        size(), mine.count, element, merge, [&](int r) { return r == rank_ ? own : from + r * part; }, own);
    if (c.operation == Operation::reduce_scatter && !c.whole) continue;  // parts are needed whole
    const auto gather = [&](Messages& m) {
      const auto take = [&](int r) {
        const Run theirs = run_of(c, r, turn, turns);
        receive(m, lane, data + theirs.begin * element, theirs.count * element, r);
      };
      trade([&](int r) { send(m, lane, own, part, r); }, take);
    };
    co_await Until<Exchange>(*this, c, keep, gather);
  }
}

void Mpi::send_everything(Messages& m, const Lane& lane, const std::byte* mine, int64_t bytes, std::byte* all) {
  const auto take = [&](int r) { receive(m, lane, all + r * bytes, bytes, r); };
  trade([&](int r) { send(m, lane, mine, bytes, r); }, take);
  std::memcpy(all + rank_ * bytes, mine, size_t(bytes));
}

Going Mpi::gather(Lane& lane, Call c, const std::byte* mine, std::byte* all, Keep keep) {
  const int64_t bytes = c.bytes();
  co_await Until<Opening>(*this, lane, c, mine, keep);
  if (is_inline(c)) {
    for (int r = 0; bytes && r < size(); r++) std::memcpy(all + r * bytes, lane.blocks[size_t(r)].data, size_t(bytes));
    co_return;
  }
  const auto post = [&](Messages& m) { send_everything(m, lane, mine, bytes, all); };
  co_await Until<Exchange>(*this, c, keep, post);
}

// From the root.
Going Mpi::spread(Lane& lane, Call c, std::byte* data, Keep keep) {
  const int64_t bytes = c.bytes();
  co_await Until<Opening>(*this, lane, c, rank_ == c.root ? data : nullptr, keep);
  if (is_inline(c)) {
    if (bytes && rank_ != c.root) std::memcpy(data, lane.blocks[size_t(c.root)].data, size_t(bytes));
    co_return;
  }
  const auto post = [&](Messages& m) {
    if (rank_ != c.root) receive(m, lane, data, bytes, c.root);
    else each_peer([&](int r) { send(m, lane, data, bytes, r); });
  };
  co_await Until<Exchange>(*this, c, keep, post);
}

// One that waits is copied, and doesn't.
Going Mpi::send_letter(Call c, const std::byte* data, Keep keep) {
  post_->check();
  const LetterHead head{c.bytes(), c.element_bytes};
  const auto* bytes = reinterpret_cast<const std::byte*>(&head);
  post_->send_later({bytes, bytes + sizeof head}, c.root, tag(2));
  if (!c.started) {
    post_->send_later({data, data + head.bytes}, c.root, tag(2));
    co_return;
  }
  const auto post = [&](Messages& m) { post_->send(m, data, c.bytes(), c.root, tag(2)); };
  co_await Until<Exchange>(*this, c, keep, post);
}

Going Mpi::receive(Call c, std::byte* data, int from, Keep keep) {
  post_->check();
  Untaken& letter = untaken_[size_t(from)];
  if (!letter.head.element_bytes) {  // where it stays, should the call be given up when it comes
    auto* head = reinterpret_cast<std::byte*>(&letter.head);
    const auto post = [&](Messages& m) { post_->receive(m, head, sizeof letter.head, c.root, tag(2)); };
    co_await Until<Exchange>(*this, c, nullptr, post);
  }
  check_letter({letter.head.bytes, letter.head.element_bytes, nullptr}, c, member(rank_));
  if (letter.data) std::memcpy(data, letter.data.get(), size_t(letter.head.bytes));
  else co_await Until<Taking>(*this, c, keep, data, letter);
  letter = {};
}

Mpi::Taking::Taking(Mpi& mpi, const Call& c, Keep keep, std::byte* data, Untaken& letter)
    : Arrival(mpi, std::move(keep), c.describe()), data(data), letter(letter) {
  mpi.post_->receive(messages, data, letter.head.bytes, c.root, mpi.tag(2));
  parts = int(messages.all.size());
  messages.promised = true;  // by its head
}

Mpi::Taking::~Taking() {
  if (messages.all.empty()) return;
  mpi.post_->give_up(messages, nullptr, mpi.waits(what));
  const bool came = messages.taken_back == 0;
  if (messages.taken_back == parts || mpi.post_->has_ended() || (came && keeps_data())) return;
  mpi.post_->end(
      text("rank ", mpi.member(mpi.rank_), " gave up ", what, came ? ", and has no room for it" : " halfway"));
}

bool Mpi::Taking::keeps_data() {
  try {
    letter.data = std::make_unique_for_overwrite<std::byte[]>(size_t(letter.head.bytes));
  } catch (const std::bad_alloc&) { return false; }
  std::memcpy(letter.data.get(), data, size_t(letter.head.bytes));
  return true;
}

std::shared_ptr<Communicator> Mpi::split(int color, int key) {
  Call c = called({Operation::split}, false);
  c.color = color;
  c.key = key;
  {
    const Lock lock(post_->mutex());
    open(lanes_[0], c).run();
  }
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

std::shared_ptr<Communicator> make_mpi(std::unique_ptr<MpiCalls> calls, const std::function<void()>& poll,
                                       bool threads) {
  auto post = std::make_shared<Post>(std::move(calls));
  std::vector<int> members(static_cast<size_t>(post->size()));
  for (int r = 0; r < post->size(); r++) members[size_t(r)] = r;
  const int rank = post->rank();
  auto beside = std::make_shared<Beside>();
  beside->also([post] { return post->deliver(); });
  auto made = std::make_shared<Mpi>(std::move(post), 0, std::move(members), rank, std::move(beside));
  made->on_wait(poll);
  made->choose_overlap(threads);
  return made;
}

}  // namespace thalweg
