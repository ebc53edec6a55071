#include "visible.h"

#include "../exec/stream.h"
#include "../tensor/error.h"

namespace thalweg {
namespace {

constexpr int64_t kTogetherBytes = 16 << 10;                 // that are folded, then written everywhere
constexpr int64_t kSummedBytes = 192 << 10;                  // that are folded, then told of: in L2, of two ranks
constexpr int64_t kLeastPieces = 4, kLeastBytes = 16 << 10;  // of a broadcast
constexpr int64_t kLeastLent = 32 << 10;                     // of an all-gather

bool is_small(const Call& c) { return c.bytes() <= kSmallBytes; }
// A sum of which every rank folds all.
bool is_whole(const Call& c, int size) { return is_small(c) || c.elements < size; }
// The same where other nodes add to it: then each rank sends them its share, unless all of it goes along with a call.
bool is_whole_across(const Call& c, int size) {
  return c.bytes() <= kInlineBytes || (!is_small(c) && c.elements < size);
}
int64_t bytes_of_sum(const Call& c, int rank, int size, bool across = false) {
  if (across ? is_whole_across(c, size) : is_whole(c, size)) return c.bytes() * (size - 1);
  return bytes_reduced(c, rank, size, !across && c.operation == Operation::reduce_scatter);
}

int64_t bytes_of_stripes(const Call& c, int rank, int size, const Stripes& stripes) {
  int64_t mine = 0;
  stripes.each(rank, size, c.elements, [&](int64_t begin, int64_t end) { mine += end - begin; });
  return (c.elements - mine) * c.element_bytes;
}

// Into an array of which this rank gets `whole` bytes.
void copy_out(std::byte* to, const std::byte* from, int64_t bytes, int64_t whole) {
  if (whole <= kFarBytes) {
    std::memcpy(to, from, size_t(bytes));
    return;
  }
  copy_far(to, from, bytes);
  end_far();
}

}  // namespace

void Visible::Opening::result() {
  Meeting::result();
  all_.flight_.all_came(event_);
  const std::string difference = disagreement(
      all_.size(), [&](int r) -> const Call& { return all_.call(lane_, parity_, r); },
      [&](int r) { return all_.member(r); });
  if (!difference.empty()) throw Disagreement(difference);  // every rank has found the same
}

Call Visible::call_of(const Ask& a, bool started) const {
  Call c(a.operation, a.elements, a.element_bytes, is_letter(a) ? member(a.peer) : a.peer);
  c.started = started;
  c.in_place = !is_letter(a) && !is_small(c) && sees(a.data, c.bytes());
  if (c.in_place && a.stripes.length) c.root = int32_t(a.stripes.length);
  c.context = context_;
  return c;
}

// Shows what this rank calls, and data that are small.
uint64_t Visible::begin(Lane& lane, const Call& c, const std::byte* data) {
  lane.calls++;
  call(lane.number, lane.parity(), rank()) = c;
  if (data && c.bytes() && is_small(c)) std::memcpy(small(lane.number, lane.parity(), rank()), data, size_t(c.bytes()));
  return flight_.begins(c);
}

// Piece k: at most window() bytes, or all of what is seen in place or lent; the first one may hold nothing at all. In a
// broadcast the root copies one while the others read the last: there are several.
Visible::Piece Visible::piece_of(const Call& c, int64_t elements, int64_t element_bytes, int64_t k) const {
  int64_t bytes = window();
  if (c.operation == Operation::broadcast) bytes = std::min(bytes, std::max(kLeastBytes, c.bytes() / kLeastPieces));
  if (c.in_place || is_lent(c)) bytes = elements * element_bytes;
  const int64_t most = std::max<int64_t>(1, bytes / std::max<int64_t>(1, element_bytes));
  const int64_t at = k * most;
  return {k, at, std::min(most, elements - at)};
}

std::byte* Visible::memory(Lane& lane, int64_t bytes) {
  if (int64_t(lane.all.size()) < bytes) lane.all.resize(size_t(bytes));
  return lane.all.data();
}

// In an all-gather each rank copies less. In a broadcast the root copies while the others do: they are quicker so than
// the kernel.
bool Visible::is_lent(const Call& c) const {
  return c.operation == Operation::all_gather && !c.in_place && c.bytes() >= kLeastLent && lends();
}

void Visible::meet() {
  Meeting m(*this, 0);
  if (!m.ready()) m.wait();
  m.result();
}

Going Visible::going(Lane& lane, const Ask& a, const Merge& merge, const Keep& keep) {
  const Call c = call_of(a, &lane == &lanes_[1]);
  switch (a.operation) {
    case Operation::all_reduce: return reduce(lane, c, a, merge, keep);
    case Operation::reduce_scatter: return scatter(lane, c, a.data, merge, keep);
    case Operation::all_gather: return gather(lane, c, a.data, a.all, keep);
    case Operation::broadcast: return spread(lane, c, a.data, keep);
    case Operation::send: count_letter(c.bytes(), a.peer); return send_letter(c, a.data, a.peer);
    case Operation::recv: return receive(c, a.data, a.peer);
    default: return open(lane, c);
  }
}

void Visible::perform(const Ask& ask, const Merge& merge) {
  const auto make = [&](const Merge& kept) { return going(lanes_[0], ask, kept, nullptr); };
  if (is_letter(ask)) started_.run(ask, make);
  else make(merge).run();
}

uint64_t Visible::start(const Ask& ask, Merge merge, Keep keep) {
  return started_.add(ask, std::move(merge), keep,
                      [&](const Merge& kept) { return going(lanes_[1], ask, kept, keep); });
}

std::vector<std::byte*> Visible::see(std::byte* mine, int64_t bytes) {
  const int64_t place = sees(mine, bytes) ? place_of(mine) : -1;
  std::vector<int64_t> places(static_cast<size_t>(size()));
  all_gather(reinterpret_cast<const std::byte*>(&place), 1, sizeof place, reinterpret_cast<std::byte*>(places.data()));
  std::vector<std::byte*> all;
  for (int64_t p : places) {
    if (p == -1) return {};
    all.push_back(at_place(p));
  }
  return all;
}

std::shared_ptr<Communicator> Visible::split(int color, int key) {
  Call c(Operation::split);
  c.context = context_;
  c.color = color;
  c.key = key;
  open(lanes_[0], c).run();
  std::vector<std::pair<int, int>> order;  // (key, rank) of my colour
  for (int r = 0; r < size(); r++) {
    const Call& other = call(0, lanes_[0].parity(), r);
    if (other.color == color) order.emplace_back(other.key, r);
  }
  std::sort(order.begin(), order.end());
  std::vector<int> members;
  for (auto& [k, r] : order) members.push_back(r);
  const auto me = std::find(members.begin(), members.end(), rank()) - members.begin();
  auto made = join(color, members, int(me));
  made->set_overlap(overlap());
  return made;
}

void Visible::leave() {
  if (!started_.empty()) abort(text("rank ", member(rank()), " has left before what it had started was finished"));
  left();
}

Going Visible::open(Lane& lane, Call c) { co_await Until<Opening>(*this, lane, begin(lane, c, nullptr)); }

Going Visible::reduce(Lane& lane, Call c, Ask ask, const Merge& merge, Keep keep, Across across) {
  lane.folder.prepare(size(), c.element_bytes);
  bytes_sent_ += ask.stripes.length && c.in_place ? bytes_of_stripes(c, rank(), size(), ask.stripes)
                                                  : bytes_of_sum(c, rank(), size(), bool(across));
  if (is_small(c)) return reduce_small(lane, c, ask.data, merge, std::move(across));
  if (!c.in_place && c.element_bytes > window())
    return reduce_gathered(lane, c, ask.data, merge, std::move(keep), std::move(across));
  return reduce_pieces(lane, c, std::move(ask), merge, std::move(keep), std::move(across));
}

// Each rank folds its share of a piece where its data are, then shows it.
Going Visible::reduce_pieces(Lane& lane, Call c, Ask ask, const Merge& merge, Keep keep, Across across) {
  const int64_t element = c.element_bytes;
  const uint64_t event = begin(lane, c, ask.data);
  for (Piece p = piece_of(c, c.elements, element, 0); p.count > 0; p = piece_of(c, c.elements, element, p.k + 1)) {
    std::byte* at = ask.data + p.begin * element;
    const bool whole = p.count < size();  // fewer elements than ranks: each folds all of them
    const int64_t begin = whole ? 0 : share(p.count, rank(), size());
    const int64_t end = whole ? 0 : share(p.count, rank() + 1, size());
    show(lane.number, at, p.count * element, p.k, keep, begin * element, end * element);
    if (p.k == 0) co_await Until<Opening>(*this, lane, event);
    else co_await Until<Meeting>(*this, lane.number);
    if (ask.stripes.length && c.in_place) {
      ask.stripes.each(rank(), size(), c.elements,
                       [&](int64_t from, int64_t to) { fold_stripe(lane, p, ask, from, to, element, merge); });
    } else if (whole) {
      std::byte* folded = memory(lane, p.count * element);
      fold_shown(lane, p, at, 0, p.count, element, merge, folded);
      co_await Until<Meeting>(*this, lane.number);
      if (across) co_await Until<Part>(across(folded, p.count));
      std::memcpy(at, folded, size_t(p.count * element));
    } else if (c.in_place && !across) {
      fold_everywhere(lane, p, at, element, merge);
    } else {
      std::byte *folded = at + begin * element, *shows = own(lane.number, p.k) + begin * element;
      fold_shown(lane, p, at, begin, end, element, merge, folded);
      if (across) co_await Until<Part>(across(folded, end - begin));
      if (shows != folded) std::memcpy(shows, folded, size_t((end - begin) * element));
      co_await Until<Meeting>(*this, lane.number);
      take_shares(lane, at, p, element);
    }
  }
  co_await Until<Meeting>(*this, lane.number);
}

// Every rank folds all, or its share where other nodes are to add to it: what goes to them goes once.
Going Visible::reduce_small(Lane& lane, Call c, std::byte* data, const Merge& merge, Across across) {
  const uint64_t event = begin(lane, c, data);
  co_await Until<Opening>(*this, lane, event);
  const auto shown = [&](int r, int64_t at) { return small(lane.number, lane.parity(), r) + at * c.element_bytes; };
  if (!across || is_whole_across(c, size())) {
    if (c.bytes())  // else nobody has shown anything
      lane.folder.fold(size(), c.elements, c.element_bytes, merge, [&](int r) { return shown(r, 0); }, data);
    if (across) co_await Until<Part>(across(data, c.elements));
    co_return;
  }
  const int64_t begin = share(c.elements, rank(), size()), end = share(c.elements, rank() + 1, size());
  std::byte* mine = shown(rank(), begin);
  lane.folder.fold(size(), end - begin, c.element_bytes, merge, [&](int r) { return shown(r, begin); }, mine);
  co_await Until<Part>(across(mine, end - begin));
  co_await Until<Meeting>(*this, lane.number);
  for (int r = 0; r < size(); r++) {
    const int64_t from = share(c.elements, r, size()), to = share(c.elements, r + 1, size());
    if (from < to) std::memcpy(data + from * c.element_bytes, shown(r, from), size_t((to - from) * c.element_bytes));
  }
}

// Elements that no piece can hold: every rank folds all of them by itself.
Going Visible::reduce_gathered(Lane& lane, Call c, std::byte* data, const Merge& merge, Keep keep, Across across) {
  const int64_t total = c.bytes();
  std::vector<std::byte> all(size_t(total * size()));
  co_await Until<Part>(gather(lane, c, data, all.data(), std::move(keep)));
  lane.folder.fold(size(), c.elements, c.element_bytes, merge, [&](int r) { return all.data() + r * total; }, data);
  if (across) co_await Until<Part>(across(data, c.elements));
}

Going Visible::scatter(Lane& lane, Call c, std::byte* data, const Merge& merge, Keep keep) {
  const int64_t element = c.element_bytes;
  lane.folder.prepare(size(), element);
  bytes_sent_ += bytes_of_sum(c, rank(), size());
  if (!is_small(c) && !c.in_place && element > window()) {
    co_await Until<Part>(reduce_gathered(lane, c, data, merge, std::move(keep), nullptr));
    co_return;
  }
  if (is_small(c)) {
    co_await Until<Part>(reduce_small(lane, c, data, merge, nullptr));
    co_return;
  }
  const uint64_t event = begin(lane, c, data);
  const int64_t first = share(c.elements, rank(), size()), last = share(c.elements, rank() + 1, size());
  for (Piece p = piece_of(c, c.elements, element, 0); p.count > 0; p = piece_of(c, c.elements, element, p.k + 1)) {
    std::byte* at = data + p.begin * element;
    const int64_t begin = std::clamp<int64_t>(first - p.begin, 0, p.count);
    const int64_t end = std::clamp<int64_t>(last - p.begin, 0, p.count);
    show(lane.number, at, p.count * element, p.k, keep, begin * element, end * element);
    if (p.k == 0) co_await Until<Opening>(*this, lane, event);
    else co_await Until<Meeting>(*this, lane.number);
    if (begin < end) fold_shown(lane, p, at, begin, end, element, merge, at + begin * element);
  }
  co_await Until<Meeting>(*this, lane.number);
}

Going Visible::gather(Lane& lane, Call c, const std::byte* mine, std::byte* all, Keep keep) {
  const int64_t total = c.bytes();
  bytes_sent_ += c.operation == Operation::all_gather ? total * (size() - 1) : 0;
  const uint64_t event = begin(lane, c, mine);
  if (is_small(c)) {
    co_await Until<Opening>(*this, lane, event);
    for (int r = 0; total && r < size(); r++)
      std::memcpy(all + r * total, small(lane.number, lane.parity(), r), size_t(total));
    co_return;
  }
  for (Piece p = piece_of(c, total, 1, 0); p.count > 0; p = piece_of(c, total, 1, p.k + 1)) {
    show(lane.number, mine + p.begin, p.count, p.k, keep);
    if (p.k == 0) co_await Until<Opening>(*this, lane, event);
    else co_await Until<Meeting>(*this, lane.number);
    for (int r = 0; r < size(); r++) {
      std::byte* to = all + r * total + p.begin;
      if (r == rank()) copy_out(to, mine + p.begin, p.count, total);
      else copy_shown(lane, r, p, c, to);
    }
  }
  co_await Until<Meeting>(*this, lane.number);
}

// From the root.
Going Visible::spread(Lane& lane, Call c, std::byte* data, Keep keep) {
  const int64_t total = c.bytes();
  const bool root = rank() == c.root;
  bytes_sent_ += root ? total * (size() - 1) : 0;
  const uint64_t event = begin(lane, c, root ? data : nullptr);
  if (is_small(c)) {
    co_await Until<Opening>(*this, lane, event);
    if (total && !root) std::memcpy(data, small(lane.number, lane.parity(), c.root), size_t(total));
    co_return;
  }
  for (Piece p = piece_of(c, total, 1, 0); p.count > 0; p = piece_of(c, total, 1, p.k + 1)) {
    if (root) show(lane.number, data + p.begin, p.count, p.k, keep);
    if (p.k == 0) co_await Until<Opening>(*this, lane, event);
    else co_await Until<Meeting>(*this, lane.number);
    if (!root) copy_shown(lane, c.root, p, c, data + p.begin);
  }
  co_await Until<Meeting>(*this, lane.number);
}

Going Visible::receive(Call c, std::byte* data, int from) {
  Letter letter = co_await Until<Delivery>(*this, c, data, from);
  try {
    check_letter(letter, c, member(rank()));
  } catch (const ValueError&) {
    return_letter(from, std::move(letter));  // for another call
    throw;
  }
  if (letter.data) std::memcpy(data, letter.data.get(), size_t(letter.bytes));
}

// out = elements [begin, end) of a piece, which is `mine` here, folded over the ranks.
void Visible::fold_shown(Lane& lane, const Piece& p, const std::byte* mine, int64_t begin, int64_t end,
                         int64_t element_bytes, const Merge& merge, std::byte* out) {
  const auto from = [&](int r) { return (r == rank() ? mine : shown(lane.number, r, p.k)) + begin * element_bytes; };
  lane.folder.fold(size(), end - begin, element_bytes, merge, from, out);
}

void Visible::fold_stripe(Lane& lane, const Piece& p, const Ask& ask, int64_t begin, int64_t end, int64_t element_bytes,
                          const Merge& merge) {
  const int64_t most = std::max<int64_t>(1, kSummedBytes / element_bytes), first = ask.stripes.first;
  for (int64_t next; begin < end; begin = next) {
    next = std::min(end, ((first + begin) / most + 1) * most - first);  // at multiples, whatever is told of them
    fold_shown(lane, p, ask.data, begin, next, element_bytes, merge, ask.data + begin * element_bytes);
    if (ask.summed) ask.summed(begin, next);
  }
}

// This rank's share of a piece, folded, to where each rank has it: while it is in the cache, from which nobody else
// reads it. Others do the same with theirs.
void Visible::fold_everywhere(Lane& lane, const Piece& p, std::byte* mine, int64_t element_bytes, const Merge& merge) {
  const int64_t chunk = std::max<int64_t>(1, kTogetherBytes / element_bytes);
  const int64_t begin = share(p.count, rank(), size()), end = share(p.count, rank() + 1, size());
  for (int64_t at = begin; at < end; at += chunk) {
    const int64_t n = std::min(chunk, end - at);
    std::byte* sum = mine + at * element_bytes;
    fold_shown(lane, p, mine, at, at + n, element_bytes, merge, sum);
    for (int r = 0; r < size(); r++)
      if (r != rank()) std::memcpy(shown(lane.number, r, p.k) + at * element_bytes, sum, size_t(n * element_bytes));
  }
}

// A piece of bytes that rank r shows.
void Visible::copy_shown(const Lane& lane, int r, const Piece& p, const Call& c, std::byte* to) {
  if (is_lent(c)) read_lent(lane.number, r, to, p.count);
  else copy_out(to, shown(lane.number, r, p.k), p.count, c.bytes());
}

// Every other rank shows its share of a piece, folded.
void Visible::take_shares(const Lane& lane, std::byte* data, const Piece& p, int64_t element_bytes) {
  for (int r = 0; r < size(); r++) {
    const int64_t begin = share(p.count, r, size()) * element_bytes,
                  end = share(p.count, r + 1, size()) * element_bytes;
    const std::byte* from = shown(lane.number, r, p.k);
    if (r != rank()) std::memcpy(data + begin, from + begin, size_t(end - begin));
  }
}

}  // namespace thalweg
