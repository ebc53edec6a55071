#include "letters.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "../tensor/error.h"

namespace thalweg {
namespace {

constexpr int64_t kPieceBytes = kStreamBytes / 8;  // the other rank copies one of them meanwhile
constexpr int64_t kLeastLent = 64 << 10;           // what reading it takes beside the copy is little of it

}  // namespace

uint64_t Letters::room(int to) const {
  const Stream& s = memory_->stream(rank_, to);
  return uint64_t(kStreamBytes) - (s.written.load(std::memory_order_relaxed) - s.read.load(std::memory_order_acquire));
}

Letters::Writing::~Writing() {
  const Writing*& writing = letters_.writing_[size_t(to_)];
  if (writing != this) return;
  writing = nullptr;
  const NodeMemory& m = *letters_.memory_;
  letters_.memory_->end(text("rank ", m.name(letters_.rank_), " gave up a letter to rank ", m.name(to_), " halfway"));
}

bool Letters::Writing::can_go_on() const {
  const Writing* writing = letters_.writing_[size_t(to_)];
  if (writing && writing != this) return false;
  return left() > 0 ? letters_.room(to_) > 0 : is_over();
}

std::span<const std::byte> Letters::Writing::next() const {
  const auto head = int64_t(sizeof head_);
  if (gone_ >= head) return {data_ + (gone_ - head), size_t(left())};
  return {reinterpret_cast<const std::byte*>(&head_) + gone_, size_t(head - gone_)};
}

// Whether the rest of it is lent, from now on.
bool Letters::Writing::lends() {
  const auto head = int64_t(sizeof head_);
  if (lent_ || !letters_.lends_ || to_ == letters_.rank_ || gone_ < head) return lent_;
  if (left() < kLeastLent || left() <= int64_t(letters_.room(to_)) || !letters_.comes(to_)) return false;
  lent_ = true;
  letters_.memory_->stream(letters_.rank_, to_).lent.store(data_ + (gone_ - head), std::memory_order_release);
  letters_.memory_->ring(to_);
  return true;
}

bool Letters::Writing::go_on() {
  const Writing*& writing = letters_.writing_[size_t(to_)];
  if (writing && writing != this) return false;
  Stream& s = letters_.memory_->stream(letters_.rank_, to_);
  while (left() > 0 && !lends()) {
    if (to_ == letters_.rank_) letters_.take_in(to_);
    const uint64_t room = letters_.room(to_);
    if (!room) return false;
    const std::span<const std::byte> from = next();
    const uint64_t at = s.written.load(std::memory_order_relaxed);
    const int64_t begin = int64_t(at % kStreamBytes);
    const int64_t n = std::min({int64_t(from.size()), int64_t(room), kStreamBytes - begin, kPieceBytes});
    writing = this;
    std::memcpy(s.data + begin, from.data(), size_t(n));
    gone_ += n;
    s.written.store(at + uint64_t(n), std::memory_order_release);
    letters_.memory_->ring(to_);
  }
  if (!is_over()) return false;
  writing = nullptr;
  return true;
}

// Also of a letter that is on its way already.
void Letters::expect(int64_t group, int from, const Call& c, std::byte* data) {
  std::deque<Letter>& come = box(group, from);
  if (data) expected_[{group, from}] = {&c, data};
  else if (const auto before = expected_.extract({group, from}); before && !come.empty()) {
    Letter& first = come.front();  // it lies where nobody takes it any more
    if (first.bytes && !first.data) {
      first.data = std::make_unique_for_overwrite<std::byte[]>(size_t(first.bytes));
      std::memcpy(first.data.get(), before.mapped().data, size_t(first.bytes));
    }
  }
  Arriving& a = arriving_[size_t(from)];
  if (a.is(group) && box(group, from).empty() && (!data || a.letter.fits(c))) place(a, data);
}

void Letters::place(Arriving& a, std::byte* data) {
  if (!data && a.letter.data) return;
  const std::byte* from = a.place;
  std::unique_ptr<std::byte[]> before = std::move(a.letter.data);
  if (!data && a.head.bytes) a.letter.data = std::make_unique_for_overwrite<std::byte[]>(size_t(a.head.bytes));
  a.place = data ? data : a.letter.data.get();
  if (from && a.came_of_data()) std::memcpy(a.place, from, size_t(a.came_of_data()));
}

bool Letters::has_new(int from) const {
  const Stream& s = memory_->stream(from, rank_);
  return s.read.load(std::memory_order_relaxed) != s.written.load(std::memory_order_acquire) ||
         (s.lent.load(std::memory_order_relaxed) && !arriving_[size_t(from)].is_lost);
}

void Letters::take_in(int from) {
  Stream& s = memory_->stream(from, rank_);
  const std::byte* rest = s.lent.load(std::memory_order_acquire);  // what is written after it is of another letter
  const uint64_t written = s.written.load(std::memory_order_acquire);
  for (uint64_t at = s.read.load(std::memory_order_relaxed); at < written;) {
    const std::span<std::byte> to = place_of_next(arriving_[size_t(from)]);
    const int64_t begin = int64_t(at % kStreamBytes);
    const int64_t n = std::min({int64_t(to.size()), int64_t(written - at), kStreamBytes - begin, kPieceBytes});
    std::memcpy(to.data(), s.data + begin, size_t(n));
    at += uint64_t(n);
    s.read.store(at, std::memory_order_release);
    if (from != rank_) memory_->ring(from);
    came(from, n);
  }
  if (rest && !arriving_[size_t(from)].is_lost) take_lent(from, rest);
}

// Whoever gave up the letter meanwhile had ended all ranks before its data were gone.
void Letters::take_lent(int from, const std::byte* rest) {
  Arriving& a = arriving_[size_t(from)];
  const std::span<std::byte> to = place_of_next(a);
  const bool has_come = memory_->read(from, rest, to.data(), int64_t(to.size()));
  const int error = errno;
  if (!has_come && error != ESRCH)  // a process that is gone is found by whoever waits
    memory_->end(text("rank ", memory_->name(rank_), " can't read a letter of rank ", memory_->name(from), ": ",
                      std::strerror(error)));
  a.is_lost = !has_come || memory_->has_ended();
  if (a.is_lost) return;
  memory_->stream(from, rank_).lent.store(nullptr, std::memory_order_release);
  memory_->ring(from);
  came(from, int64_t(to.size()));
}

std::span<std::byte> Letters::place_of_next(Arriving& a) const {
  const auto head = int64_t(sizeof a.head);
  if (a.came < head) return {reinterpret_cast<std::byte*>(&a.head) + a.came, size_t(head - a.came)};
  return {a.place + a.came_of_data(), size_t(a.head.bytes - a.came_of_data())};
}

void Letters::came(int from, int64_t bytes) {
  Arriving& a = arriving_[size_t(from)];
  a.came += bytes;
  if (a.came < int64_t(sizeof a.head)) return;
  const int64_t group = a.head.group;
  if (a.came == int64_t(sizeof a.head)) {
    a.letter = {a.head.bytes, a.head.element_bytes, nullptr};
    const auto expected = expected_.find({group, from});
    const bool fits = expected != expected_.end() && box(group, from).empty() && a.letter.fits(*expected->second.call);
    place(a, fits ? expected->second.data : nullptr);
  }
  if (a.came_of_data() < a.head.bytes) return;
  box(group, from).push_back(std::move(a.letter));
  a = {};
}

}  // namespace thalweg
