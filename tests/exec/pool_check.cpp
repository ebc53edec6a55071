// A worker that the system has put on the caller's core is on another one soon, and may use all of them afterwards.
#include <sched.h>

#include <cstdio>

#include "exec/pool.h"

using namespace thalweg;

namespace {

struct Seen {
  int caller = -1, worker = -1, allowed = 0;
  bool put = false;
};

// Task 1 is the worker's. With `put` it goes to the caller's core first, and may leave it.
void look(void* self, int64_t task, int) {
  Seen& seen = *static_cast<Seen*>(self);
  if (task == 0) {
    seen.caller = sched_getcpu();
    return;
  }
  cpu_set_t all, one;
  sched_getaffinity(0, sizeof all, &all);
  seen.allowed = CPU_COUNT(&all);
  if (seen.put) {
    CPU_ZERO(&one);
    CPU_SET(seen.caller, &one);
    sched_setaffinity(0, sizeof one, &one);
    sched_setaffinity(0, sizeof all, &all);
  }
  seen.worker = sched_getcpu();
}

}  // namespace

int main() {
  cpu_set_t all;
  sched_getaffinity(0, sizeof all, &all);
  if (CPU_COUNT(&all) < 2) return std::puts("one core"), 0;
  const auto pool = make_pool(2);
  Seen seen;
  pool->run(2, look, &seen, 2);
  cpu_set_t here;  // the caller stays, so that the two can't part by its moving
  CPU_ZERO(&here);
  CPU_SET(seen.caller, &here);
  sched_setaffinity(0, sizeof here, &here);
  int apart = 0;
  for (int round = 0; round < 20; round++) {
    seen.put = true;
    pool->run(2, look, &seen, 2);
    seen.put = false;
    pool->run(2, look, &seen, 2);
    apart += seen.worker != seen.caller;
  }
  const bool free = seen.allowed == CPU_COUNT(&all);
  if (apart < 19 || !free) return std::fprintf(stderr, "apart in %d of 20, free: %d\n", apart, free), 1;
  return std::puts("apart"), 0;
}
