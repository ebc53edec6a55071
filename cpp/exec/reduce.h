// reduce.h: sums and other folds of the columns of a matrix, in an order that shapes alone decide (along rows:
// lanes.h).
//   out(c) = fold over the rows of a (rows, C) matrix: a chain or a few row lanes inside a block, the tree of shards.h
//            over the blocks of a shard and over the shards: reduce_rows, reduce_groups, and sum_operands for both
// A fold is given by Combine: identity<N>() and (a, b) -> N. Threads, vector width and instruction set choose nothing.
#pragma once
#include <array>
#include <limits>
#include <utility>
#include <vector>

#include "../tensor/arena.h"
#include "ask.h"
#include "for_each.h"
#include "shards.h"

namespace thalweg {

struct Add {
  template <class N>
  static TW_HD N identity() {
    return N(0);
  }
  template <class N>
  TW_HD N operator()(N a, N b) const {
    return a + b;
  }
};
struct Max {
  template <class N>
  static TW_HD N identity() {
    return N(-std::numeric_limits<RealOf<N>>::infinity());
  }
  template <class N>
  TW_HD N operator()(N a, N b) const {
    return maximum(a, b);
  }
};
struct Min {
  template <class N>
  static TW_HD N identity() {
    return N(std::numeric_limits<RealOf<N>>::infinity());
  }
  template <class N>
  TW_HD N operator()(N a, N b) const {
    return minimum(a, b);
  }
};

// K planes of per-channel state; state[k][c] and state[k].set(c, x) with c the channel of the matrix.
template <class N, int K>
using State = std::array<View<N>, K>;
template <class N, int K>
State<N, K> state_at(RealOf<N>* p, int64_t width, int64_t c0 = 0) {
  return [&]<size_t... k>(std::index_sequence<k...>) {
    return State<N, K>{planar<N>(p + int64_t(k) * kPlanes<N> * width, width, c0)...};
  }(std::make_index_sequence<K>{});
}
template <class N, int K>
void fill_state(const State<N, K>& state, int64_t c0, int64_t c1, N x) {
  for (int k = 0; k < K; k++) {
    const View<N> a = state[k];
#pragma omp simd
    for (int64_t c = c0; c < c1; c++) a.set(c, x);
  }
}

// How a column fold is cut into tasks; made once when a kernel is built. A run is an aligned stretch of 2^k blocks of
// one shard, and so a subtree; a tile is a stretch of channels. Neither changes the bits.
struct Columns {
  struct Run {
    int64_t shard, begin, end;  // blocks [begin, end)
  };
  RowBlocks blocks;
  int64_t channels = 1;
  int64_t tile = 1;  // channels of a task
  std::vector<Run> runs;
  std::vector<int64_t> shard_runs;  // shard s owns runs [shard_runs[s], shard_runs[s + 1])
  int64_t tiles() const { return (channels + tile - 1) / tile; }
  int64_t rows_of(const Run& run) const { return blocks.row[run.end] - blocks.row[run.begin]; }
  int64_t rows_of_shard(int64_t s) const { return blocks.row[blocks.shard[s + 1]] - blocks.row[blocks.shard[s]]; }
};
Columns columns(RowBlocks blocks, int64_t channels);

// Rows that are added side by side in a block of few channels: a power of two with row_lanes * channels >= 64.
inline int64_t row_lanes(int64_t channels) {
  return channels >= 64 || channels < 1 ? 1 : std::bit_ceil(uint64_t((63 + channels) / channels));
}

// A row of what belongs to the channels, repeated for the rows that are added side by side, in memory for so many
// numbers; the row itself where one row is added at a time.
inline constexpr int64_t kRowOfLanes = 128;  // row_lanes(c) * c is less
template <class N>
View<N> repeated(View<N> row, int64_t channels, RealOf<N> (&memory)[kPlanes<N> * kRowOfLanes]) {
  const int64_t width = row_lanes(channels) * channels;
  if (width == channels) return row;
  const View<N> lanes = planar<N>(memory, kRowOfLanes);
  for (int64_t c = 0; c < channels; c++)
    for (int64_t j = c; j < width; j += channels) lanes.set(j, row[c]);
  return lanes;
}

namespace reduce_detail {

template <class N, size_t... k, class Combine>
TW_HD std::array<N, sizeof...(k)> combined(const std::array<N, sizeof...(k)>& a, const std::array<N, sizeof...(k)>& b,
                                           Combine combine, std::index_sequence<k...>) {
  return {combine(a[k], b[k])...};
}
template <class N, size_t... k>
TW_HD std::array<N, sizeof...(k)> loaded(const State<N, sizeof...(k)>& state, int64_t c, std::index_sequence<k...>) {
  return {state[k][c]...};
}

// at(r) + at(r + 1) + ... + at(r + kRows - 1), after `sum`; written out, as loops inside loops do not vectorise.
template <class N, int K, int kRows, class Combine, class At>
TW_HD std::array<N, K> after(const std::array<N, K>& sum, int64_t r, int64_t c, const At& at, Combine combine) {
  if constexpr (kRows == 0) return sum;
  else
    return after<N, K, kRows - 1>(combined(sum, at(r, c), combine, std::make_index_sequence<K>{}), r + 1, c, at,
                                  combine);
}

// state(c) = combine(state(c), at(r, c)) for rows [r, r + kRows), or starting from row r itself when kFirst.
// A function of its own: arrays that are declared in a simd loop's body stay in memory, and the loop stays scalar.
template <class N, int K, int kRows, bool kFirst, class Combine, class At>
TW_HD void take_channel(int64_t r, int64_t c, const At& at, const State<N, K>& state, Combine combine) {
  constexpr auto all = std::make_index_sequence<K>{};
  const std::array<N, K> first = kFirst ? at(r, c) : loaded<N>(state, c, all);
  const std::array<N, K> sum = after<N, K, kFirst ? kRows - 1 : kRows>(first, r + kFirst, c, at, combine);
  for (int k = 0; k < K; k++) state[k].set(c, sum[k]);
}
template <class N, int K, int kRows, bool kFirst, class Combine, class At>
TW_HD void take_rows(int64_t r, int64_t c0, int64_t c1, const At& rows, const State<N, K>& planes, Combine combine) {
  const At at = rows;  // copies: through references the compiler would reload pointers and scatter
  const State<N, K> state = planes;
#pragma omp simd
  for (int64_t c = c0; c < c1; c++) take_channel<N, K, kRows, kFirst>(r, c, at, state, combine);
}

// kRowsAtOnce rows. What lies in tiles (of more channels than kTileChannels) is not asked for: it is no one run.
template <class N, int K, bool kFirst, class Combine, class At, class Ask>
void take_at_once(int64_t r, int64_t c0, int64_t c1, const At& at, const State<N, K>& state, Combine combine,
                  const Ask& ask) {
  if constexpr (Ask::kAsks)
    if (ask.asks() && c0 == 0 && c1 == ask.width) {
      for (int64_t c = c0; c < c1; c += kAskColumns) {
        const int64_t n = std::min(kAskColumns, c1 - c);
        ask(r, c, n);
        take_rows<N, K, kRowsAtOnce, kFirst>(r, c, c + n, at, state, combine);
      }
      return;
    }
  take_rows<N, K, kRowsAtOnce, kFirst>(r, c0, c1, at, state, combine);
}

// One chain a channel over rows [r0, r1), r0 < r1; some rows a pass keep the state out of the way.
template <class N, int K, class Combine, class At, class Ask = AskNothing>
void chain(int64_t r0, int64_t r1, int64_t c0, int64_t c1, const At& at, const State<N, K>& state, Combine combine,
           const Ask& ask = {}) {
  int64_t r = r0;
  if (r1 - r0 >= kRowsAtOnce) {
    take_at_once<N, K, true>(r, c0, c1, at, state, combine, ask);
    for (r += kRowsAtOnce; r + kRowsAtOnce <= r1; r += kRowsAtOnce)
      take_at_once<N, K, false>(r, c0, c1, at, state, combine, ask);
  } else {
    take_rows<N, K, 1, true>(r++, c0, c1, at, state, combine);
  }
  for (; r < r1; r++) take_rows<N, K, 1, false>(r, c0, c1, at, state, combine);
}

template <class N, int K, class Combine>
void merge_states(const State<N, K>& into, const State<N, K>& from, int64_t c0, int64_t c1, Combine combine) {
  for (int k = 0; k < K; k++) {
    const View<N> a = into[k], b = from[k];
#pragma omp simd
    for (int64_t c = c0; c < c1; c++) a.set(c, combine(a[c], b[c]));
  }
}

template <class Element>
TW_HD auto element_at(const Element& element, int64_t i, int64_t c) {
  if constexpr (requires { element(i); }) return element(i);
  else return element(i, c);
}

// Few channels: lane l takes rows r0 + l, r0 + l + lanes, ...; then the lanes fold in halves. Short blocks have no more
// lanes than they need.
template <class N, int K, class Combine, class Element, class Ask>
void narrow_block(int64_t r0, int64_t r1, int64_t channels, const Element& element, const State<N, K>& state,
                  Combine combine, const Ask& ask) {
  alignas(64) RealOf<N> memory[K * kPlanes<N> * kRowOfLanes];
  const State<N, K> lanes = state_at<N, K>(memory, kRowOfLanes);
  const int64_t count = std::min<int64_t>(row_lanes(channels), std::bit_ceil(uint64_t(r1 - r0)));
  const int64_t width = count * channels, groups = (r1 - r0) / count;
  fill_state<N, K>(lanes, 0, width, Combine::template identity<N>());
  auto at = [=](int64_t g, int64_t j) { return element_at(element, r0 * channels + g * width + j, j); };
  // It never asks here. Without `ask` the same loop came from memory a tenth slower for all channels (GCC 12, Zen 4).
  if (groups > 0) chain<N, K>(0, groups, 0, width, at, lanes, combine, ask.of(r0 * channels, width));
  const int64_t rest = (r1 - r0 - groups * count) * channels;
  if (rest > 0) take_rows<N, K, 1, false>(groups, 0, rest, at, lanes, combine);
  for (int64_t half = width / 2; half >= channels; half /= 2) {
    const State<N, K> upper = state_at<N, K>(memory + half, kRowOfLanes);
    merge_states<N, K>(lanes, upper, 0, half, combine);
  }
  for (int k = 0; k < K; k++)
    for (int64_t c = 0; c < channels; c++) state[k].set(c, lanes[k][c]);
}

}  // namespace reduce_detail

// state[k](c) = fold of element(...)[k] over rows [r0, r1) of channels [c0, c1): one block, the leaf of a column fold.
// element(i) with the flat index i = r * channels + c, or element(i, c); both give std::array<N, K>. With fewer than 64
// channels the range must be all of them (as tiles are), and c is below row_lanes(channels) * channels: what belongs to
// a channel is read from a row that is repeated so far. ask: for what comes from memory.
template <class N, int K, class Element, class Combine = Add, class Ask = AskNothing>
void fold_block(int64_t r0, int64_t r1, int64_t channels, int64_t c0, int64_t c1, const Element& element,
                const State<N, K>& state, Combine combine = {}, const Ask& ask = {}) {
  using namespace reduce_detail;
  if (r0 >= r1) return fill_state<N, K>(state, c0, c1, Combine::template identity<N>());
  if (row_lanes(channels) > 1) return narrow_block<N, K>(r0, r1, channels, element, state, combine, ask);
  auto at = [=](int64_t r, int64_t c) { return element_at(element, r * channels + c, c); };
  chain<N, K>(r0, r1, c0, c1, at, state, combine, ask.of(0, channels));
}

namespace reduce_detail {

// fold_tree over items that count so many rows each: make(i, slot), merge(slot a, slot b, rows of both).
template <class RowsOf, class Make, class MergeSlots>
void fold_counted(int64_t count, const RowsOf& rows_of, const Make& make, const MergeSlots& merge) {
  int64_t rows[64];
  fold_tree(
      count,
      [&](int64_t i, int s) {
        rows[s] = rows_of(i);
        make(i, s);
      },
      [&](int a, int b) {
        merge(a, b, rows[a], rows[b]);
        rows[a] += rows[b];
      });
}

// The tree over the blocks of one run; the result is in `out`. Deeper slots live in the worker's Slot::local.
template <class N, int K, class Leaf, class Merge>
void fold_run(const Exec& exec, int worker, const Columns& plan, const Columns::Run& run, int64_t c0, int64_t c1,
              const Leaf& leaf, const Merge& merge, const State<N, K>& out) {
  const int64_t count = run.end - run.begin, width = plan.tile, size = K * kPlanes<N> * width;
  const int64_t* row = plan.blocks.row.data() + run.begin;
  if (count <= 1) return leaf(worker, row[0], row[count], c0, c1, out);
  auto* stack = exec.scratch<RealOf<N>>(worker, Slot::local, size * (tree_slots(count) - 1));
  auto slot = [&](int s) { return s == 0 ? out : state_at<N, K>(stack + (s - 1) * size, width, c0); };
  fold_counted(
      count, [&](int64_t b) { return row[b + 1] - row[b]; },
      [&](int64_t b, int s) { leaf(worker, row[b], row[b + 1], c0, c1, slot(s)); },
      [&](int a, int b, int64_t n_a, int64_t n_b) { merge(slot(a), slot(b), n_a, n_b, c0, c1); });
}

// The tree over `count` states that already exist: merges state item_of(b) into item_of(a); the first one has the
// result.
template <class RowsOf, class MergeItems>
void fold_items(int64_t count, const RowsOf& rows_of, const MergeItems& merge) {
  int64_t item[64];
  fold_counted(
      count, rows_of, [&](int64_t i, int s) { item[s] = i; },
      [&](int a, int b, int64_t n_a, int64_t n_b) { merge(item[a], item[b], n_a, n_b); });
}

// Shards of one run each, by one thread: their states are slots of the stack of their tree.
template <class N, int K, class Leaf, class Merge>
void fold_alone(const Exec& exec, const Columns& plan, const Leaf& leaf, const Merge& merge, const State<N, K>& out) {
  const int64_t shards = plan.blocks.shards(), channels = plan.channels, size = K * kPlanes<N> * channels;
  auto* stack = exec.scratch<RealOf<N>>(0, Slot::shared, size * (tree_slots(shards) - 1));
  auto slot = [&](int s) { return s == 0 ? out : state_at<N, K>(stack + (s - 1) * size, channels); };
  fold_counted(
      shards, [&](int64_t i) { return plan.rows_of_shard(i); },
      [&](int64_t i, int s) { fold_run<N, K>(exec, 0, plan, plan.runs[i], 0, channels, leaf, merge, slot(s)); },
      [&](int a, int b, int64_t n_a, int64_t n_b) { merge(slot(a), slot(b), n_a, n_b, 0, channels); });
}

template <class N, int K, bool kGroups, class Leaf, class Merge>
void fold_columns(const Exec& exec, const Columns& plan, double ns_per_element, const Leaf& leaf, const Merge& merge,
                  const State<N, K>& out) {
  const int64_t runs = int64_t(plan.runs.size()), tiles = plan.tiles(), shards = plan.blocks.shards();
  const int64_t channels = plan.channels, size = K * kPlanes<N> * channels;
  const bool direct = runs == (kGroups ? shards : 1);  // every run is a result
  auto* states = direct ? nullptr : exec.scratch<RealOf<N>>(0, Slot::shared, size * runs);
  auto state_of = [&](int64_t i) -> State<N, K> {
    if constexpr (kGroups) {
      const int64_t s = plan.runs[i].shard;
      if (plan.shard_runs[s] != i) return state_at<N, K>(states + i * size, channels);
      return [&]<size_t... k>(std::index_sequence<k...>) {
        return State<N, K>{out[k].at(s * channels)...};
      }(std::make_index_sequence<K>{});
    } else {
      return i == 0 ? out : state_at<N, K>(states + i * size, channels);
    }
  };
  const double work_ns = double(plan.blocks.rows()) * double(channels) * ns_per_element;
  if constexpr (!kGroups)
    if (tiles == 1 && runs == shards && exec.threads_for(work_ns) == 1)
      return fold_alone<N, K>(exec, plan, leaf, merge, out);
  exec.parallel(runs * tiles, work_ns, [&](int64_t task, int worker) {
    const int64_t c0 = task % tiles * plan.tile, c1 = std::min(channels, c0 + plan.tile), i = task / tiles;
    fold_run<N, K>(exec, worker, plan, plan.runs[i], c0, c1, leaf, merge, state_of(i));
  });
  if (direct) return;
  const double merge_ns = double(runs) * double(channels) * K * 0.5;
  exec.parallel(tiles, merge_ns, [&](int64_t tile, int) {
    const int64_t c0 = tile * plan.tile, c1 = std::min(channels, c0 + plan.tile);
    for (int64_t s = 0; s < shards; s++) {
      const int64_t first = plan.shard_runs[s];
      fold_items(
          plan.shard_runs[s + 1] - first, [&](int64_t i) { return plan.rows_of(plan.runs[first + i]); },
          [&](int64_t a, int64_t b, int64_t n_a, int64_t n_b) {
            merge(state_of(first + a), state_of(first + b), n_a, n_b, c0, c1);
          });
    }
    if constexpr (!kGroups)
      fold_items(
          shards, [&](int64_t s) { return plan.rows_of_shard(s); },
          [&](int64_t a, int64_t b, int64_t n_a, int64_t n_b) {
            merge(state_of(plan.shard_runs[a]), state_of(plan.shard_runs[b]), n_a, n_b, c0, c1);
          });
  });
}

}  // namespace reduce_detail

// Folds the rows of a matrix into K planes of per-channel results, out[k](c): blocks in a shard, then the shards.
//   leaf(worker, r0, r1, c0, c1, state)         state of rows [r0, r1), perhaps none; may use Slot::tile
//   merge(into, from, n_into, n_from, c0, c1)   into = into + from, states of so many rows; into is the older
template <class N, int K, class Leaf, class Merge>
void reduce_rows(const Exec& exec, const Columns& plan, double ns_per_element, const Leaf& leaf, const Merge& merge,
                 const State<N, K>& out) {
  reduce_detail::fold_columns<N, K, false>(exec, plan, ns_per_element, leaf, merge, out);
}

// The same without the last step: one result per shard, out[k](s * channels + c). Folds of a middle axis.
template <class N, int K, class Leaf, class Merge>
void reduce_groups(const Exec& exec, const Columns& plan, double ns_per_element, const Leaf& leaf, const Merge& merge,
                   const State<N, K>& out) {
  reduce_detail::fold_columns<N, K, true>(exec, plan, ns_per_element, leaf, merge, out);
}

// A leaf for reduce_rows from one that takes views of what it reads: leaf(in, r0, r1, c0, c1, state).
template <class N, int M, class Leaf>
auto on_rows(const Operands<N, M>& in, const Leaf& leaf) {
  return [&](int, int64_t r0, int64_t r1, int64_t c0, int64_t c1, const auto& state) {
    in.read([&](const auto& views) { leaf(views, r0, r1, c0, c1, state); });
  };
}

// Column sums (or other folds) of elements: body(in) gives an element as in fold_block from views of what is read.
template <class N, int K, bool kGroups, int M, class Body, class Combine = Add>
void sum_operands(const Exec& exec, const Columns& plan, double ns_per_element, const Operands<N, M>& in,
                  const Body& body, const State<N, K>& out, Combine combine = {}) {
  auto fold = [&](const auto& x, int64_t r0, int64_t r1, int64_t c0, int64_t c1, const State<N, K>& state) {
    fold_block<N, K>(r0, r1, plan.channels, c0, c1, body(x), state, combine, ask_long_rows(x, plan.channels));
  };
  const auto leaf = on_rows<N, M>(in, fold);
  auto merge = [&](const State<N, K>& into, const State<N, K>& from, int64_t, int64_t, int64_t c0, int64_t c1) {
    reduce_detail::merge_states<N, K>(into, from, c0, c1, combine);
  };
  reduce_detail::fold_columns<N, K, kGroups>(exec, plan, ns_per_element, leaf, merge, out);
}

}  // namespace thalweg
