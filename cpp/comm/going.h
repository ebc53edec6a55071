// going.h: a collective under way. It is written once, as a coroutine that stops wherever it needs other ranks; a
// blocking call waits there, a started one goes on at the next look.
#pragma once
#include <algorithm>
#include <chrono>
#include <coroutine>
#include <deque>
#include <exception>
#include <map>
#include <utility>

#include "../tensor/error.h"
#include "communicator.h"

namespace thalweg {

// What a collective needs of the others before it goes on. Its class has a result(), which may throw.
struct Awaited {
  virtual bool ready() = 0;                     // at once
  virtual void wait() = 0;                      // until it is; throws Lost where it never will be
  virtual bool can_go_on() { return ready(); }  // as ready(), or a part of it
  virtual bool rings() const { return true; }   // whether a rank that sleeps is woken when it is
  virtual void look() {}                        // throws Lost where it never will be, as wait()
  void result() {}

 protected:
  ~Awaited() = default;
};

class Going {
 public:
  struct promise_type {
    Awaited* awaited = nullptr;
    std::exception_ptr error;

    Going get_return_object() { return Going(std::coroutine_handle<promise_type>::from_promise(*this)); }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    std::suspend_always final_suspend() const noexcept { return {}; }
    void return_void() const {}
    void unhandled_exception() { error = std::current_exception(); }
  };

  Going() = default;
  Going(Going&& o) noexcept : at_(std::exchange(o.at_, nullptr)) {}
  Going& operator=(Going&& o) noexcept {
    std::swap(at_, o.at_);
    return *this;
  }
  ~Going() {
    if (at_) at_.destroy();
  }

  // Goes on as far as it can at once; whether it is done. Throws what the collective threw.
  bool poll() {
    while (!at_.done()) {
      if (at_.promise().awaited && !at_.promise().awaited->ready()) return false;
      at_.promise().awaited = nullptr;
      at_.resume();
    }
    if (at_.promise().error) std::rethrow_exception(std::exchange(at_.promise().error, nullptr));
    return true;
  }
  void run() {
    while (!poll()) at_.promise().awaited->wait();
  }
  bool can_go_on() const { return !at_.promise().awaited || at_.promise().awaited->can_go_on(); }
  bool rings() const { return !at_.promise().awaited || at_.promise().awaited->rings(); }
  void look() const {
    if (at_.promise().awaited) at_.promise().awaited->look();
  }

 private:
  explicit Going(std::coroutine_handle<promise_type> at) : at_(at) {}
  std::coroutine_handle<promise_type> at_;
};

// co_await Until(...): T is an Awaited.
template <class T>
struct Until {
  template <class... A>
  explicit Until(A&&... a) : what(std::forward<A>(a)...) {}
  Until(const Until&) = delete;
  Until& operator=(const Until&) = delete;
  bool await_ready() { return what.ready(); }
  void await_suspend(std::coroutine_handle<Going::promise_type> at) { at.promise().awaited = &what; }
  auto await_resume() { return what.result(); }
  T what;
};

// A collective inside another one. What it throws is thrown there.
struct Part final : Awaited {
  explicit Part(Going going) : going(std::move(going)) {}
  bool ready() final {
    return over || attempt([this] { return going.poll(); });
  }
  void wait() final {
    attempt([this] { return going.run(), true; });
  }
  bool can_go_on() final { return over || going.can_go_on(); }
  bool rings() const final { return over || going.rings(); }
  void look() final {
    if (!over) going.look();
  }
  void result() const {
    if (error) std::rethrow_exception(error);
  }

 private:
  template <class F>
  bool attempt(const F& f) {
    try {
      over = f();
    } catch (...) {
      error = std::current_exception();
      over = true;
    }
    return over;
  }
  Going going;
  bool over = false;
  std::exception_ptr error;
};

class Started;

// What a rank has started in all its groups: while it waits for one thing, the others go on.
class Beside {
 public:
  void add(Started& s) { all_.push_back(&s); }
  void remove(Started& s) { std::erase(all_, &s); }
  // deliver(): goes on with messages to others for which nobody waits here; whether none is left.
  void also(std::function<bool()> deliver) { deliver_ = std::move(deliver); }
  inline bool can_go_on() const;
  inline bool rings() const;  // whether a rank that sleeps is woken when they can
  inline void progress();

 private:
  std::vector<Started*> all_;
  std::function<bool()> deliver_ = [] { return true; };
};

// Calls that run one after the other; the first of them is under way.
class Line {
 public:
  // make(merge): the call; what it works on stays until it is done. Returns its number, from 1 on.
  template <class Make>
  uint64_t add(Merge merge, std::shared_ptr<void> keep, const Make& make) {
    over_.clear();
    One& one = all_.emplace_back();
    one.merge = std::move(merge);
    one.keep = std::move(keep);
    one.going = make(one.merge);
    return ++count_;
  }
  bool empty() const { return all_.empty(); }
  uint64_t done() const { return count_ - all_.size(); }
  bool can_go_on() const { return !waits_ && !all_.empty() && all_.front().going.can_go_on(); }
  bool rings() const { return waits_ || all_.empty() || all_.front().going.rings(); }
  // As far as possible without waiting. Errors are kept for the next check().
  void progress() {
    while (!waits_ && !all_.empty() && attempt([](Going& g) { return g.poll(); })) {}
  }
  void look() {
    if (!waits_ && !all_.empty()) attempt([](Going& g) { return g.look(), false; });
  }
  // Returns the number of the call that something interrupted in its wait, a signal, say; 0: nothing did.
  uint64_t finish(uint64_t number) {
    interrupted_ = 0;
    waits_ = true;
    while (!all_.empty() && done() < number) attempt([](Going& g) { return g.run(), true; });
    waits_ = false;
    return interrupted_;
  }
  // Throws the first error of the calls from `first` to `last` that was not thrown yet, else that of the last one. A
  // call that was given up when another waited for it is lost from then on.
  void check(uint64_t first, uint64_t last) {
    over_.clear();
    std::exception_ptr error, own;
    for (Failed& f : failed_) {
      if (f.number < first || f.number > last) continue;
      if (!error && !f.told) error = f.error;
      if (f.number == last) own = f.error;
      f.told = true;
    }
    std::erase_if(failed_, [last](const Failed& f) { return f.told && !f.stays && f.number == last; });
    for (Failed& f : failed_)
      if (f.told && !f.stays) f.error = std::make_exception_ptr(Lost("this call was interrupted")), f.stays = true;
    while (failed_.size() > kKept && failed_.front().told) failed_.pop_front();
    if (error || own) std::rethrow_exception(error ? error : own);
  }

 private:
  struct One {
    Merge merge;
    std::shared_ptr<void> keep;
    Going going;
  };
  struct Failed {
    uint64_t number;
    std::exception_ptr error;
    bool stays;  // it may be thrown more than once
    bool told = false;
  };
  static constexpr size_t kKept = 1000;
  // Whether the first one is over, one way or the other. Where ranks are lost, so are all that follow; and where this
  // rank gave one up that the others go on with: the next would meet them in it.
  template <class F>
  bool attempt(const F& f) {
    try {
      if (!f(all_.front().going)) return false;
      pop();
    } catch (const Lost&) {
      while (!all_.empty()) fail(std::current_exception(), true);
    } catch (const ValueError&) { fail(std::current_exception(), true); } catch (...) {
      interrupted_ = done() + 1;
      fail(std::current_exception(), false);
      const auto lost = std::make_exception_ptr(Lost("a call that was started before this one was interrupted"));
      while (!all_.empty()) fail(lost, true);
    }
    return true;
  }
  void fail(const std::exception_ptr& error, bool stays) {
    pop();
    failed_.push_back({done(), error, stays});
  }
  void pop() {
    over_.push_back(std::move(all_.front().keep));
    all_.pop_front();
  }

  std::deque<One> all_;
  uint64_t count_ = 0;
  bool waits_ = false;  // in the first one
  uint64_t interrupted_ = 0;
  std::deque<Failed> failed_;
  std::vector<std::shared_ptr<void>> over_;  // given back at the rank's next call: another thread may be here now
};

// What was started in one group: a line of collectives, and one of letters to and from each other rank.
class Started {
 public:
  explicit Started(std::shared_ptr<Beside> beside) : beside_(std::move(beside)) { beside_->add(*this); }
  ~Started() { beside_->remove(*this); }
  const std::shared_ptr<Beside>& beside() const { return beside_; }

  // Returns a ticket: the line, and the number in it.
  template <class Make>
  uint64_t add(const Ask& ask, Merge merge, std::shared_ptr<void> keep, const Make& make) {
    const uint64_t line = line_of(ask), number = lines_[line].add(std::move(merge), std::move(keep), make);
    progress();
    return line << kNumberBits | number;
  }
  // Of a call that waits, after those of its line. Throws its error alone, or what interrupted the wait for them.
  template <class Make>
  void run(const Ask& ask, const Make& make) {
    const uint64_t ticket = add(ask, nullptr, nullptr, make);
    finish(ticket, number_of(ticket));
  }
  bool empty() const {
    return std::all_of(lines_.begin(), lines_.end(), [](auto& line) { return line.second.empty(); });
  }
  bool is_finished(uint64_t ticket) const {
    const auto found = lines_.find(ticket >> kNumberBits);
    return found == lines_.end() || found->second.done() >= number_of(ticket);
  }
  bool can_go_on() const {
    return std::any_of(lines_.begin(), lines_.end(), [](auto& line) { return line.second.can_go_on(); });
  }
  bool rings() const {
    return std::all_of(lines_.begin(), lines_.end(), [](auto& line) { return line.second.rings(); });
  }
  void progress() {
    for (auto& [key, line] : lines_) line.progress();
  }
  // Whether all is done. What other groups have started goes on too: look() takes it for a reason not to wait.
  bool poll() {
    beside_->progress();
    if (empty()) return check(), true;
    if (const auto now = std::chrono::steady_clock::now(); now - looked_ > kBetweenLooks) {
      looked_ = now;
      for (auto& [key, line] : lines_) line.look();
    }
    check();
    return false;
  }
  void finish(uint64_t ticket, uint64_t first = 0) {
    if (ticket == ~uint64_t(0)) {
      for (auto& [key, line] : lines_)
        if (line.finish(ticket)) break;
      return check();
    }
    const auto found = lines_.find(ticket >> kNumberBits);
    if (found == lines_.end()) return;
    const uint64_t interrupted = found->second.finish(number_of(ticket));
    found->second.check(interrupted ? std::min(first, interrupted) : first, number_of(ticket));
  }
  void drop() { lines_.clear(); }

 private:
  static constexpr int kNumberBits = 48;
  static constexpr auto kBetweenLooks = std::chrono::milliseconds(50);

  static uint64_t line_of(const Ask& ask) {
    return is_letter(ask) ? 2 * uint64_t(ask.peer) + (ask.operation == Operation::send ? 1 : 2) : 0;
  }
  static uint64_t number_of(uint64_t ticket) { return ticket & ((uint64_t(1) << kNumberBits) - 1); }
  void check() {
    for (auto& [key, line] : lines_) line.check(0, ~uint64_t(0));
  }

  std::shared_ptr<Beside> beside_;
  std::map<uint64_t, Line> lines_;
  std::chrono::steady_clock::time_point looked_{};
};

bool Beside::can_go_on() const {
  deliver_();
  return std::any_of(all_.begin(), all_.end(), [](const Started* s) { return s->can_go_on(); });
}

bool Beside::rings() const {
  return deliver_() && std::all_of(all_.begin(), all_.end(), [](const Started* s) { return s->rings(); });
}

void Beside::progress() {
  deliver_();
  for (Started* s : all_) s->progress();
}

}  // namespace thalweg
