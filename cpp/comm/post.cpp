#include "post.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <set>
#include <thread>

#include "../tensor/error.h"
#include "cut.h"

namespace thalweg {
namespace {

constexpr int kControl = 0;         // the tag of words; groups have the tags after it
constexpr int64_t kPart = 1 << 30;  // bytes of one message: counts are ints
constexpr double kLookSeconds = 0.05;
constexpr double kLastWords = 0.3;  // what a rank sent before it left may still be on its way

// Leaves the core to others more and more: MPI makes progress only while it is called.
void pause(int turn, double waited) {
  if (turn < 2000) return;
  if (waited < 0.002) sched_yield();
  else std::this_thread::sleep_for(std::chrono::microseconds(waited < 1 ? 50 : 500));
}

struct Unlocked {
  explicit Unlocked(std::mutex& mutex) : mutex(mutex) { mutex.unlock(); }
  ~Unlocked() { mutex.lock(); }
  std::mutex& mutex;
};

}  // namespace

Post::Post(std::unique_ptr<MpiCalls> calls)
    : calls_(std::move(calls)),
      left_(size_t(calls_->size()), -1),
      words_(size_t(calls_->size())),
      hears_(words_.size()) {
  for (int r = 0; r < size(); r++)
    if (r != rank())
      receive(hears_[size_t(r)], reinterpret_cast<std::byte*>(&words_[size_t(r)]), sizeof(Word), r, kControl);
}

void Post::send(Messages& m, const std::byte* data, int64_t bytes, int to, int tag) {
  for (int64_t at = 0; at < bytes; at += kPart)
    m.all.push_back({calls_->send(data + at, int(std::min(kPart, bytes - at)), to, tag), to, false});
}

void Post::receive(Messages& m, std::byte* data, int64_t bytes, int from, int tag) {
  for (int64_t at = 0; at < bytes; at += kPart)
    m.all.push_back({calls_->receive(data + at, int(std::min(kPart, bytes - at)), from, tag), from, true});
}

bool Post::progress(Messages& m) {
  std::erase_if(m.all, [&](Messages::One& one) {
    bool taken_back = false;
    const bool done = one.cancelled ? calls_->test_cancelled(one.request, taken_back) : calls_->test(one.request);
    if (taken_back) m.taken_back++;
    else if (done && one.comes) m.last = one.peer;
    return done;
  });
  return m.all.empty();
}

void Post::wait(Messages& m, const Wait& w) {
  const double start = clock_.seconds();
  double last = start;
  for (int turn = 0; !progress(m); turn++) {
    push();
    w.meanwhile();
    const double at = clock_.seconds();
    const Unlocked unlocked(mutex_);
    if (at - last > kLookSeconds) {
      (*w.poll)();
      const std::lock_guard lock(mutex_);
      look(m, w, at - start);
      last = at;
    }
    pause(turn, at - start);
  }
}

// Receives must not write into memory that goes away, sends must not read it: what `keep` holds stays until they are
// done, other memory until the receives are, or all ranks have ended. One that has met its message can't be taken back:
// its sender, who made the call, may be at other work before it goes on with it. So an interrupt may be late, as long
// as a call may wait. The last ones are taken back first: a message that comes meanwhile meets its own receive.
void Post::give_up(Messages& m, std::shared_ptr<void> keep, const Wait& w) {
  for (auto one = m.all.rbegin(); one != m.all.rend(); ++one)
    if (one->comes) calls_->cancel(one->request), one->cancelled = true;
  Messages sends;
  for (Messages::One& one : m.all)
    if (!one.comes) sends.all.push_back(one);
  std::erase_if(m.all, [](const Messages::One& one) { return !one.comes; });
  const double start = clock_.seconds();
  for (int turn = 0; !progress(m); turn++) {
    const double waited = clock_.seconds() - start;
    push();
    listen();
    if (waited > kLastWords && ended_) break;
    if (w.limit > 0 && waited > w.limit)
      end(text("rank ", rank(), " gave up ", w.what, ", whose data rank ", m.all[0].peer,
               " did not send to their end within the limit, ", w.limit, " s"));
    pause(turn, waited);
  }
  m.all.clear();
  if (keep) given_up_.push_back({{}, std::move(sends), std::move(keep)});
}

void Post::look(const Messages& m, const Wait& w, double waited) {
  listen();
  check();
  std::set<int> peers;
  for (const Messages::One& one : m.all) peers.insert(one.peer);
  for (int r : peers)
    if (!m.promised && left_[size_t(r)] >= 0 && clock_.seconds() - left_[size_t(r)] > kLastWords)
      throw Lost(text("rank ", r, " has left: it ended while rank ", rank(), " waits in ", w.what,
                      " (all ranks must make the same calls)"));
  if (w.limit <= 0 || waited < w.limit) return;
  std::string missing;
  for (int r : peers) missing += text(missing.empty() ? "" : ", ", r);
  end(text("rank ", rank(), " has waited ", std::round(waited * 10) / 10, " s in ", w.what, " for rank",
           peers.size() > 1 ? "s " : " ", missing, ", the limit is ", w.limit, " s"));
  check();
}

void Post::send_later(std::vector<std::byte> data, int to, int tag) {
  Outgoing& o = outbox_.emplace_back();
  o.data = std::move(data);
  send(o.messages, o.data.data(), int64_t(o.data.size()), to, tag);
}

void Post::push() {
  std::erase_if(outbox_, [&](Outgoing& o) { return progress(o.messages); });
  std::erase_if(given_up_, [&](Outgoing& o) { return progress(o.messages); });
}

void Post::check() const {
  if (ended_) throw Lost(why_);
}

void Post::leave(const Wait& w) {
  say({0, rank(), {}});
  for (double last = clock_.seconds(); !ended_ && (!outbox_.empty() || !all_left());) {
    push();
    listen();
    if (!all_left()) last = clock_.seconds();
    else if (w.limit > 0 && clock_.seconds() - last > w.limit) {
      end(text("rank ", rank(), " has left, and what it sent was not received after ", w.limit,
               " s: all others have left"));
      return check();
    }
    const Unlocked unlocked(mutex_);
    (*w.poll)();
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

bool Post::all_left() const {
  return std::all_of(left_.begin(), left_.end(), [](double at) { return at >= 0; });
}

void Post::end(const std::string& why) {
  if (ended_) return;
  ended_ = true;
  why_ = why;
  Word word{1, rank(), {}};
  std::memcpy(word.why, why.data(), cut(why, sizeof(word.why) - 1));
  say(word);
  for (int i = 0; i < 50 && !outbox_.empty(); i++) {
    push();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void Post::say(const Word& word) {
  if (left_[size_t(rank())] >= 0) return;  // a rank has one last word
  left_[size_t(rank())] = clock_.seconds();
  const auto* bytes = reinterpret_cast<const std::byte*>(&word);
  for (int r = 0; r < size(); r++)
    if (r != rank()) send_later({bytes, bytes + sizeof word}, r, kControl);
}

void Post::listen() {
  for (int r = 0; r < size(); r++) {
    if (left_[size_t(r)] >= 0 || r == rank() || !progress(hears_[size_t(r)])) continue;
    left_[size_t(r)] = clock_.seconds();
    const Word& word = words_[size_t(r)];
    if (!word.ends || ended_) continue;
    ended_ = true;
    why_ = word.why;
  }
}

}  // namespace thalweg
