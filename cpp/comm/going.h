// going.h: a collective under way. It is written once, as a coroutine that stops wherever it needs other ranks; a
// blocking call waits there, a started one goes on at the next look.
#pragma once
#include <algorithm>
#include <coroutine>
#include <deque>
#include <exception>
#include <utility>

#include "communicator.h"

namespace thalweg {

// What a collective needs of the others before it goes on. Its class has a result(), which may throw.
struct Awaited {
  virtual bool ready() = 0;                     // at once
  virtual void wait() = 0;                      // until it is; throws Lost where it never will be
  virtual bool can_go_on() { return ready(); }  // as ready(), or a part of it
  virtual bool rings() const { return true; }   // whether a rank that sleeps is woken when it is
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
  inline bool can_go_on() const;
  inline bool rings() const;  // whether a rank that sleeps is woken when they can
  inline void progress();

 private:
  std::vector<Started*> all_;
};

// The collectives that were started in one group, in order; the first of them is under way.
class Started {
 public:
  explicit Started(std::shared_ptr<Beside> beside) : beside_(std::move(beside)) { beside_->add(*this); }
  ~Started() { beside_->remove(*this); }
  const std::shared_ptr<Beside>& beside() const { return beside_; }

  // make(merge): the collective; what it works on stays until it is done. Its ticket is the number started so far.
  template <class Make>
  uint64_t add(Merge merge, std::shared_ptr<void> keep, const Make& make) {
    over_.clear();
    One& one = all_.emplace_back();
    one.merge = std::move(merge);
    one.keep = std::move(keep);
    one.going = make(one.merge);
    ++count_;
    progress();
    return count_;
  }
  bool empty() const { return all_.empty(); }
  uint64_t done() const { return count_ - all_.size(); }
  bool can_go_on() const { return !waits_ && !all_.empty() && all_.front().going.can_go_on(); }
  bool rings() const { return waits_ || all_.empty() || all_.front().going.rings(); }
  // As far as possible without waiting. Errors are kept for the next check().
  void progress() {
    while (!waits_ && !all_.empty() && attempt([](Going& g) { return g.poll(); })) {}
  }
  void finish(uint64_t ticket) {
    waits_ = true;
    while (!all_.empty() && done() < ticket) attempt([](Going& g) { return g.run(), true; });
    waits_ = false;
    check();
  }
  void check() {
    over_.clear();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }
  void drop() { all_.clear(); }

 private:
  struct One {
    Merge merge;
    std::shared_ptr<void> keep;
    Going going;
  };
  // Whether the first one is over, one way or the other. Where ranks are lost, so are all that follow.
  template <class F>
  bool attempt(const F& f) {
    try {
      if (!f(all_.front().going)) return false;
    } catch (const Lost&) {
      keep(std::current_exception());
      while (all_.size() > 1) pop();
    } catch (...) { keep(std::current_exception()); }
    pop();
    return true;
  }
  void pop() {
    over_.push_back(std::move(all_.front().keep));
    all_.pop_front();
  }
  void keep(std::exception_ptr error) {
    if (!error_) error_ = std::move(error);
  }

  std::shared_ptr<Beside> beside_;
  std::deque<One> all_;
  uint64_t count_ = 0;
  bool waits_ = false;  // in the first one
  std::exception_ptr error_;
  std::vector<std::shared_ptr<void>> over_;  // given back at the rank's next call: another thread may be here now
};

bool Beside::can_go_on() const {
  return std::any_of(all_.begin(), all_.end(), [](const Started* s) { return s->can_go_on(); });
}

bool Beside::rings() const {
  return std::all_of(all_.begin(), all_.end(), [](const Started* s) { return s->rings(); });
}

void Beside::progress() {
  for (Started* s : all_) s->progress();
}

}  // namespace thalweg
