// world.h: what ranks that are threads share, their sub-groups included: who waits for what, who has left, and what
// ended them all. A wait that nobody can end any more throws Lost instead of lasting for ever.
#pragma once
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

namespace thalweg {

// What a sleeping rank waits for. Looked at under the world's mutex, by any rank.
struct Wait {
  virtual ~Wait() = default;
  virtual bool ready() const = 0;
  virtual int absent() const = 0;  // a rank that has left without which it can't become ready; -1: none
  virtual std::string what() const = 0;
};

class World {
 public:
  explicit World(int size) : left_(size, 0), waits_(size) {}

  std::mutex mutex;

  // All of these: with the mutex held.
  void check() const;  // throws Lost where the world has ended
  void wait(std::unique_lock<std::mutex>& lock, int rank, const Wait& w);
  void look(int rank, const Wait& w) const;  // throws Lost where it can't become ready, as far as is known
  // As wait(), for what is bound to come.
  template <class Ready>
  void sleep_until(std::unique_lock<std::mutex>& lock, const Ready& ready);
  void changed() { changed_.notify_all(); }
  void leave(int rank);
  void end(const std::string& why);
  bool has_left(int rank) const { return left_[rank] != 0; }

 private:
  bool stuck() const;
  std::string who_waits() const;

  std::condition_variable changed_;
  bool ended_ = false;
  std::string why_;
  std::vector<char> left_;          // by rank
  std::vector<const Wait*> waits_;  // by rank; null: it does not sleep, or is sure to be woken
};

template <class Ready>
void World::sleep_until(std::unique_lock<std::mutex>& lock, const Ready& ready) {
  // As changed_.wait: but that symbol is newer (GLIBCXX_3.4.30) than the systems of manylinux_2_34.
  while (!changed_.wait_for(lock, std::chrono::hours(1), ready)) {}
}

}  // namespace thalweg
