// conv_winograd_weight.cpp: d_w in a round of outputs at a time, so that what shards leave fits in memory: the points
// of U of every shard, then their shards fold.
#include "conv_winograd.h"
#include "tile.h"
#include "winograd_squares.h"

namespace thalweg {
namespace {

using T = float;
constexpr int W = kLanes<T>;
constexpr int64_t kRoundNumbers = 2 << 20;     // that the shards leave in a round, about
constexpr int64_t kRoundRows = 4 * kTileRows;  // of outputs in a round at least, as V is made anew for each
constexpr int64_t kNearNumbers = 512 << 10;    // of the sums of a shard: then x and d_y are read once
constexpr double kMergeNs = 0.1;               // a number that a shard leaves
constexpr int kTreeSlots = 33;                 // of an int's shards

class WinogradWeight {
 public:
  WinogradWeight(const Conv& v, const Shards& shards, int threads, const T* x, const T* d_y, T* d_w, bool accumulate)
      : v_(v),
        shards_(shards),
        x_(x),
        d_y_(d_y),
        d_w_(d_w),
        accumulate_(accumulate),
        down_(divide_up(v.out_h(), 2)),
        across_(divide_up(v.out_w(), 2)),
        panels_(divide_up(v.group_in(), kPanel<T>)),
        in_step_(divide_up(v.group_in(), W) * W) {
    const int64_t numbers = shards.count() * 12 * in_step_;  // of an output
    rounds_ = divide_up(v.group_out(), std::max(kRoundRows, kRoundNumbers / numbers / kTileRows * kTileRows));
    int64_t images = 0;  // of the largest shard
    for (int s = 0; s < shards.count(); s++) images = std::max(images, shards.offset[s + 1] - shards.offset[s]);
    slots_ = tree_slots(divide_up(images * down_ * across_, kWinogradLeaf));
    const bool even = shards.count() % threads == 0 || shards.count() >= 4 * threads;
    const bool whole = even && 4 * sums_count() <= kNearNumbers;
    rows_ = whole ? 4 : 1;
    ranges_ = std::clamp<int64_t>(threads / (4 / rows_ * shards.count()), 1, divide_up(round_rows(), kTileRows));
  }
  int64_t rounds() const { return v_.groups * rounds_; }
  int64_t partial_count() const { return shards_.count() * 12 * round_rows() * in_step_; }
  void begin_round(int64_t round, T* partial) {
    group_ = round / rounds_;
    begin_ = round % rounds_ * v_.group_out() / rounds_;
    end_ = (round % rounds_ + 1) * v_.group_out() / rounds_;
    partial_ = partial;
  }

  // A task is the points of a shard, or a row of them, for a range of outputs.
  int64_t tasks() const { return shards_.count() * (4 / rows_) * ranges_; }
  int64_t input_count() const { return 4 * input_step(); }
  int64_t d_output_count() const { return 4 * d_output_step(round_rows()); }
  int64_t stack_count() const { return rows_ * sums_count(); }
  void run(int64_t task, T* input, T* d_output, T* stack) const {
    const int64_t parts = 4 / rows_, shards = shards_.count();
    const int64_t range = task / (parts * shards), count = end_ - begin_;
    Work work{.shard = task % shards,
              .a = int(task / shards % parts * rows_),
              .begin = begin_ + range * count / ranges_,
              .end = begin_ + (range + 1) * count / ranges_,
              .input = input,
              .d_output = d_output,
              .stack = stack};
    const int64_t first = shards_.offset[work.shard] * down_ * across_,
                  last = shards_.offset[work.shard + 1] * down_ * across_,
                  leaves = divide_up(last - first, kWinogradLeaf);
    for (int64_t i = 0; i < leaves; i++) {
      const int64_t from = first + i * kWinogradLeaf, to = std::min(last, from + kWinogradLeaf);
      for (int a = work.a; a < work.a + rows_; a++) {
        switch (a) {
          case 0: transform<0>(work, from, to); break;
          case 1: transform<1>(work, from, to); break;
          case 2: transform<2>(work, from, to); break;
          default: transform<3>(work, from, to);
        }
        multiply(work, a, to - from, i, leaves);
      }
    }
    for (int a = work.a; a < work.a + rows_; a++) finish(work, a);
  }

  int64_t outputs() const { return end_ - begin_; }
  // d_w of an output of the round: G' down, shards fold.
  void merge(int64_t output) const {
    for (int64_t c = 0; c < v_.group_in(); c += W) {
      Vector<T> slot[kTreeSlots][9];
      fold_tree(
          shards_.count(),
          [&](int64_t s, int to) TW_FLATTEN {
            const T* from = partial_at(s, output) + c * 12;
            TW_UNROLL for (int q = 0; q < 3; q++) {
              Vector<T> u[4], g[3];
              TW_UNROLL for (int a = 0; a < 4; a++) u[a] = load(from + (3 * a + q) * W);
              winograd_d_weight(u, g);
              TW_UNROLL for (int r = 0; r < 3; r++) slot[to][3 * r + q] = g[r];
            }
          },
          [&](int to, int from) { TW_UNROLL for (int i = 0; i < 9; i++) slot[to][i] += slot[from][i]; });
      const int part = int(std::min<int64_t>(W, v_.group_in() - c));
      T* to = d_w_ + (group_ * v_.group_out() + begin_ + output) * 9 * v_.group_in() + c;
      for (int i = 0; i < 9; i++, to += v_.group_in())
        store_first(to, accumulate_ ? load_first(to, part) + slot[0][i] : slot[0][i], part);
    }
  }

 private:
  struct Work {  // rows a, ..., a + rows_ - 1 of the points of a shard, outputs [begin, end)
    int64_t shard;
    int a;
    int64_t begin, end;
    T *input, *d_output, *stack;
    int64_t count() const { return end - begin; }
  };
  int64_t round_rows() const { return divide_up(v_.group_out(), rounds_); }
  // Squares are counted in lines of kPanel channels of x, and in rows of d_y.
  int64_t input_step() const { return point_step<T>(panels_ * kWinogradLeaf * kPanel<T>); }
  static int64_t d_output_step(int64_t count) { return point_step<T>(kWinogradLeaf * row_step<T>(count)); }
  static int64_t tiles(int64_t rows) { return divide_up(rows, kTileRows); }
  // What a shard leaves of an output: for every vector of channels row (a, q) of U G at 3 a + q.
  T* partial_at(int64_t shard, int64_t output) const {
    return partial_ + (shard * (end_ - begin_) + output) * in_step_ * 12;
  }

  template <int a>
  void transform(const Work& work, int64_t begin, int64_t end) const {
    const SquareImages<T> x{x_ + group_ * v_.group_in(), v_.h, v_.w, v_.c, -v_.pad_top, -v_.pad_left};
    const SquareImages<T> d_y{d_y_ + group_ * v_.group_out() + work.begin, v_.out_h(), v_.out_w(), v_.out, 0, 0};
    const int64_t row = row_step<T>(work.count());
    each_square_run(down_, across_, begin, end, [&](const SquareRun& run) {
      for (int64_t c = 0; c < v_.group_in(); c += W)
        squares_input<T, a, 1>(x, run, c, int(std::min<int64_t>(W, v_.group_in() - c)),
                               work.input + (c / kPanel<T> * kWinogradLeaf + run.t) * kPanel<T> + c % kPanel<T>,
                               kPanel<T>, input_step());
      for (int64_t k = 0; k < work.count(); k += W)
        squares_d_output<T, a>(d_y, run, k, int(std::min<int64_t>(W, work.count() - k)),
                               work.d_output + run.t * row + k, row, d_output_step(work.count()));
    });
  }
  int64_t sums_count() const { return 4 * tiles(round_rows()) * panels_ * slots_ * kTileSize<T>; }  // of a row
  T* sums(const Work& work, int a, int b, int64_t tile, int64_t panel) const {
    return work.stack + (a - work.a) * sums_count() +
           ((b * tiles(work.count()) + tile) * panels_ + panel) * slots_ * kTileSize<T>;
  }
  // Leaf i of a tree.
  void multiply(const Work& work, int a, int64_t count, int64_t i, int64_t leaves) const {
    KSegment segment[2];
    Chain chain[2];
    SumOrderWriter w(segment, chain, row_step<T>(work.count()), kPanel<T>, kWinogradLeaf);
    w.begin_leaf(i, leaves);
    w.add(0, 0, count);
    w.end_leaf();
    TileCall<T> call{.a_step = row_step<T>(work.count()),
                     .b_step = kPanel<T>,
                     .segment = segment,
                     .first = chain,
                     .last = chain + 1};
    for (int b = 0; b < 4; b++)
      each_tile(work, [&](int64_t tile, int64_t panel, int64_t k, int rows) {
        call.a = work.d_output + b * d_output_step(work.count()) + k;
        call.b = work.input + b * input_step() + panel * kWinogradLeaf * kPanel<T>;
        call.stack = sums(work, a, b, tile, panel);
        tile_function<T>(TileForm::columns, rows, vectors(panel))(call);
      });
  }
  // f(tile, panel, k, rows): outputs k, ..., k + rows - 1 of the task.
  template <class F>
  void each_tile(const Work& work, F f) const {
    const int64_t count = work.count(), height = tiles(count);
    for (int64_t tile = 0; tile < height; tile++)
      for (int64_t panel = 0; panel < panels_; panel++) {
        const int64_t k = tile * count / height;
        f(tile, panel, k, int((tile + 1) * count / height - k));
      }
  }
  int vectors(int64_t panel) const {
    return int(divide_up(std::min<int64_t>(kPanel<T>, v_.group_in() - panel * kPanel<T>), W));
  }
  // G' across.
  void finish(const Work& work, int a) const {
    each_tile(work, [&](int64_t tile, int64_t panel, int64_t k, int rows) {
      const T* from[4];
      for (int b = 0; b < 4; b++) from[b] = sums(work, a, b, tile, panel);
      const int many = vectors(panel);
      for (int i = 0; i < rows; i++) {
        T* const to = partial_at(work.shard, work.begin - begin_ + k + i) + panel * kPanel<T> * 12 + 3 * a * W;
        for (int v = 0; v < many; v++) {
          Vector<T> u[4], g[3];
          TW_UNROLL for (int b = 0; b < 4; b++) u[b] = load(from[b] + i * kPanel<T> + v * W);
          winograd_d_weight(u, g);
          TW_UNROLL for (int q = 0; q < 3; q++) store(to + (v * 12 + q) * W, g[q]);
        }
      }
    });
  }

  const Conv v_;
  const Shards& shards_;
  const T *x_, *d_y_;
  T* d_w_;
  bool accumulate_;
  int64_t down_, across_, panels_, in_step_, slots_, rounds_, rows_, ranges_, group_ = 0, begin_ = 0, end_ = 0;
  T* partial_ = nullptr;
};

}  // namespace

void conv_winograd_weight(const Exec& exec, const Conv& v, const Shards& shards, const float* x, const float* d_y,
                          float* d_w, bool accumulate) {
  const double ns = conv_ns(v.flops(), false) / kWinogradGain;
  WinogradWeight weight(v, shards, exec.threads_for(ns), x, d_y, d_w, accumulate);
  T* const partial = exec.scratch<T>(0, Slot::shared_pack, weight.partial_count());
  const double round_ns = ns / double(weight.rounds());
  for (int64_t round = 0; round < weight.rounds(); round++) {
    weight.begin_round(round, partial);
    exec.parallel(weight.tasks(), round_ns, [&](int64_t task, int worker) {
      weight.run(task, exec.scratch<T>(worker, Slot::a_pack, weight.input_count()),
                 exec.scratch<T>(worker, Slot::b_pack, weight.d_output_count()),
                 exec.scratch<T>(worker, Slot::tile, weight.stack_count()));
    });
    exec.parallel(weight.outputs(), double(weight.partial_count()) * kMergeNs,
                  [&](int64_t output, int) { weight.merge(output); });
  }
}

}  // namespace thalweg
