// product_run.h: how threads run a matrix product, whatever its numbers. A job is a product and where its operands lie:
//   p, ns()          its shape; estimated nanoseconds on one thread
//   part(cell)       the same for a part of C
//   grid(threads)    C cut for as many threads (grid.h); one cell: they share the product's tasks instead
//   round()          rows of A that are packed at a time
//   product(threads) what packs and runs it: prepare(memory), pack(item), run(task, own, sums)
#pragma once
#include "exec.h"
#include "grid.h"

namespace thalweg {

inline constexpr int64_t kNearProductBytes = 128 << 10;  // A or C of this size lies in L2 when a tile comes to it

template <class J, class Body>
void each_round(const J& j, const Body& body) {
  const int64_t m = j.p.m, round = j.round();
  if (round >= m) return body(j);
  for (int64_t i = 0; i < m; i += round) body(j.part({i, std::min(round, m - i), 0, j.p.n}));
}

template <class P>
void run_task(const Exec& exec, const P& product, int64_t task, int worker) {
  product.run(task, exec.scratch<typename P::Own>(worker, Slot::b_pack, product.own_count()),
              exec.scratch<typename P::Sum>(worker, Slot::tile, product.sum_count()));
}
// On one worker.
template <class P>
void run_prepared(const Exec& exec, int worker, const P& product) {
  for (int64_t item = 0; item < product.pack_items(); item++) product.pack(item);
  for (int64_t task = 0; task < product.tasks(); task++) run_task(exec, product, task, worker);
}
template <class J>
void run_alone(const Exec& exec, int worker, const J& whole) {
  each_round(whole, [&](const J& j) {
    auto product = j.product(1);
    product.prepare(exec.scratch<std::byte>(worker, Slot::a_pack, product.memory_bytes()));
    run_prepared(exec, worker, product);
  });
}
// All threads pack the operands together, and run the tasks.
template <class J>
void run_shared(const Exec& exec, const J& whole) {
  each_round(whole, [&](const J& j) {
    const double ns = j.ns();
    auto product = j.product(exec.threads_for(ns));
    product.prepare(exec.scratch<std::byte>(0, Slot::shared_pack, product.memory_bytes()));
    exec.parallel(product.pack_items(), ns, [&](int64_t item, int) { product.pack(item); });
    exec.parallel(product.tasks(), ns, [&](int64_t task, int worker) { run_task(exec, product, task, worker); });
  });
}
template <class J>
void run_job(const Exec& exec, const J& j) {
  const double ns = j.ns();
  const int threads = exec.threads_for(ns);
  if (threads == 1) return run_alone(exec, 0, j);
  const Grid grid = j.grid(threads);
  if (grid.cells() == 1) return run_shared(exec, j);
  exec.parallel(grid.cells(), ns, [&](int64_t i, int worker) { run_alone(exec, worker, j.part(grid.cell(i))); });
}
// nth(i) for i in [0, count), which are alike: one by one on all threads, or, small ones, each on one.
template <class Nth>
void run_jobs(const Exec& exec, int64_t count, const Nth& nth) {
  const double ns = nth(0).ns();
  if (count == 1 || exec.threads_for(ns) > 1) {
    for (int64_t i = 0; i < count; i++) run_job(exec, nth(i));
    return;
  }
  exec.parallel(count, ns * double(count), [&](int64_t i, int worker) { run_alone(exec, worker, nth(i)); });
}

}  // namespace thalweg
