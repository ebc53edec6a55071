#include "world.h"

#include "../tensor/error.h"
#include "communicator.h"

namespace thalweg {

void World::check() const {
  if (ended_) throw Lost(why_);
}

void World::wait(std::unique_lock<std::mutex>& lock, int rank, const Wait& w) {
  check();
  waits_[rank] = &w;
  sleep_until(lock, [&] { return w.ready() || ended_ || w.absent() >= 0 || stuck(); });
  if (!w.ready() && !ended_ && w.absent() < 0) end(who_waits());
  waits_[rank] = nullptr;
  look(rank, w);
}

void World::look(int rank, const Wait& w) const {
  if (w.ready()) return;
  check();
  if (w.absent() < 0) return;
  throw Lost(text("rank ", w.absent(), " has left: its function returned while rank ", rank, " waits in ", w.what()));
}

// Whether every rank that has not left sleeps, and nothing that any of them waits for has come.
bool World::stuck() const {
  for (size_t r = 0; r < waits_.size(); r++)
    if (!left_[r] && (!waits_[r] || waits_[r]->ready())) return false;
  return true;
}

std::string World::who_waits() const {
  constexpr int kNamed = 4;
  std::string all = "no rank can go on: ";
  int found = 0;
  for (size_t r = 0; r < waits_.size(); r++)
    if (waits_[r] && found++ < kNamed) all += text(found > 1 ? ", " : "", "rank ", r, " waits in ", waits_[r]->what());
  return found > kNamed ? text(all, ", and ", found - kNamed, " more ranks wait") : all;
}

void World::leave(int rank) {
  left_[rank] = 1;
  changed();
}

void World::end(const std::string& why) {
  if (ended_) return;
  ended_ = true;
  why_ = why;
  changed();
}

}  // namespace thalweg
