#include "visible.h"

#include "../tensor/error.h"

namespace thalweg {
namespace {

constexpr int64_t kWholeBytes = 16 << 10;  // up to here every rank folds the whole payload by itself: one copy less

}  // namespace

// Meets the others at the start of a collective; afterwards their calls may be read until the next meeting.
void Visible::open(const Call& c) {
  call(rank()) = c;
  call(rank()).context = context_;
  flight_.begins(call(rank()));
  meet(true);
  flight_.all_came();
  const std::string difference =
      disagreement(size(), [&](int r) -> const Call& { return call(r); }, [&](int r) { return member(r); });
  if (difference.empty()) return;
  meet(false);  // every rank has found the same
  throw ValueError(difference);
}

void Visible::enter(const Call& c, int64_t piece) {
  if (piece == 0) open(c);
  else meet(false);
}

Call Visible::call_of(Operation operation, const std::byte* data, int64_t elements, int64_t element_bytes,
                      int root) const {
  Call c(operation, elements, element_bytes, root);
  c.in_place = sees(data, elements * element_bytes);
  return c;
}

// Calls body for each piece of at most window() bytes, or for all of what is seen in place; once for nothing at all.
template <class Body>
void Visible::each_piece(const Call& c, int64_t elements, int64_t element_bytes, const Body& body) {
  const int64_t most = c.in_place ? std::max<int64_t>(1, elements)
                                  : std::max<int64_t>(1, window() / std::max<int64_t>(1, element_bytes));
  int64_t k = 0, begin = 0;
  do {
    const int64_t count = std::min(most, elements - begin);
    body(Piece{k++, begin, count});
    begin += count;
  } while (begin < elements);
}

std::byte* Visible::whole(int64_t bytes) {
  if (int64_t(whole_.size()) < bytes) whole_.resize(size_t(bytes));
  return whole_.data();
}

void Visible::barrier() {
  open(Call());
  meet(false);
}

void Visible::all_reduce(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) {
  const Call c = call_of(Operation::all_reduce, data, elements, element_bytes);
  folder_.prepare(size(), element_bytes);
  if (!c.in_place && element_bytes > window()) return reduce_gathered(c, data, merge);
  each_piece(c, elements, element_bytes, [&](const Piece& p) {
    const int64_t bytes = p.count * element_bytes;
    std::byte* at = data + p.begin * element_bytes;
    const bool small = bytes <= kWholeBytes || p.count < size();
    std::byte* folded = small ? whole(bytes) : nullptr;
    show(at, bytes, p.k);
    enter(c, p.k);
    if (small) {
      fold_shown(p, 0, p.count, element_bytes, merge, folded);
      meet(false);
      if (bytes) std::memcpy(at, folded, size_t(bytes));
      return;
    }
    const int64_t begin = share(p.count, rank(), size()), end = share(p.count, rank() + 1, size());
    fold_shown(p, begin, end, element_bytes, merge, own(p.k) + begin * element_bytes);
    meet(false);
    take_shares(at, p, element_bytes);
    if (p.begin + p.count == elements) meet(false);
  });
}

void Visible::reduce_scatter(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) {
  const Call c = call_of(Operation::reduce_scatter, data, elements, element_bytes);
  folder_.prepare(size(), element_bytes);
  if (!c.in_place && element_bytes > window()) return reduce_gathered(c, data, merge);
  const int64_t first = share(elements, rank(), size()), last = share(elements, rank() + 1, size());
  each_piece(c, elements, element_bytes, [&](const Piece& p) {
    show(data + p.begin * element_bytes, p.count * element_bytes, p.k);
    enter(c, p.k);
    const int64_t begin = std::max(first, p.begin), end = std::min(last, p.begin + p.count);
    if (begin < end) fold_shown(p, begin - p.begin, end - p.begin, element_bytes, merge, data + begin * element_bytes);
  });
  meet(false);
}

void Visible::all_gather(const std::byte* mine, int64_t elements, int64_t element_bytes, std::byte* all) {
  gather(call_of(Operation::all_gather, mine, elements, element_bytes), mine, all);
}

void Visible::broadcast(std::byte* data, int64_t elements, int64_t element_bytes, int root) {
  const Call c = call_of(Operation::broadcast, data, elements, element_bytes, root);
  each_piece(c, elements * element_bytes, 1, [&](const Piece& p) {
    if (rank() == root) show(data + p.begin, p.count, p.k);
    enter(c, p.k);
    if (p.count && rank() != root) std::memcpy(data + p.begin, shown(root, p.k), size_t(p.count));
  });
  meet(false);
}

std::shared_ptr<Communicator> Visible::split(int color, int key) {
  Call c(Operation::split);
  c.color = color;
  c.key = key;
  open(c);
  std::vector<std::pair<int, int>> order;  // (key, rank) of my colour
  for (int r = 0; r < size(); r++)
    if (call(r).color == color) order.emplace_back(call(r).key, r);
  std::sort(order.begin(), order.end());
  std::vector<int> members;
  for (auto& [k, r] : order) members.push_back(r);
  const auto me = std::find(members.begin(), members.end(), rank()) - members.begin();
  return join(color, members, int(me));
}

void Visible::gather(const Call& c, const std::byte* mine, std::byte* all) {
  const int64_t total = c.elements * c.element_bytes;
  each_piece(c, total, 1, [&](const Piece& p) {
    show(mine + p.begin, p.count, p.k);
    enter(c, p.k);
    for (int r = 0; p.count && r < size(); r++) std::memcpy(all + r * total + p.begin, shown(r, p.k), size_t(p.count));
  });
  meet(false);
}

// Elements that no piece can hold: every rank folds all of them by itself.
void Visible::reduce_gathered(const Call& c, std::byte* data, const Merge& merge) {
  const int64_t total = c.elements * c.element_bytes;
  std::vector<std::byte> all(size_t(total * size()));
  gather(c, data, all.data());
  folder_.fold(size(), c.elements, c.element_bytes, merge, [&](int r) { return all.data() + r * total; }, data);
}

// out = elements [begin, end) of a piece folded over the ranks.
void Visible::fold_shown(const Piece& p, int64_t begin, int64_t end, int64_t element_bytes, const Merge& merge,
                         std::byte* out) {
  folder_.fold(
      size(), end - begin, element_bytes, merge, [&](int r) { return shown(r, p.k) + begin * element_bytes; }, out);
}

// Every rank shows its share of a piece, folded.
void Visible::take_shares(std::byte* data, const Piece& p, int64_t element_bytes) {
  for (int r = 0; r < size(); r++) {
    const int64_t begin = share(p.count, r, size()) * element_bytes,
                  end = share(p.count, r + 1, size()) * element_bytes;
    if (shown(r, p.k) != data) std::memcpy(data + begin, shown(r, p.k) + begin, size_t(end - begin));
  }
}

}  // namespace thalweg
