// conv_winograd.cpp: as many squares pass together as leave V = B' d B in L2: for every panel of outputs 16 products
// (tile.h), then y = A' M A while M is near.
#include "conv_winograd.h"

#include "../tensor/arena.h"
#include "matmul.h"
#include "pack.h"
#include "tile.h"
#include "winograd_squares.h"

namespace thalweg {
namespace {

using T = float;
constexpr int W = kLanes<T>, kPoints = kWinogradPoints;
constexpr int64_t kNearNumbers = 32 << 10;  // of V of squares that pass together: with M in L2
constexpr int64_t kFewTiles = 2;            // whose squares pass together at least
constexpr int64_t kUnitBytes = 192 << 10;   // of outputs of a unit, which what follows is to find near
constexpr int64_t kUnits = 4;               // a thread, at least
constexpr int64_t kAhead = 8;               // squares from outputs that are written to those that are asked for
constexpr int64_t kWeightRows = 32;         // of input channels whose weights are transformed together

class WinogradRun {
 public:
  WinogradRun(const TapConv& v, int threads, const T* source, const T* weight, const T* bias, T* out, bool accumulate,
              const Follow& follow)
      : v_(v),
        source_(source),
        weight_(weight),
        bias_(bias),
        out_(out),
        accumulate_(accumulate),
        follow_(follow),
        panels_(divide_up(v.group_out, kPanel<T>)),
        down_(divide_up(v.rows, 2)),
        across_(divide_up(v.cols, 2)),
        square_step_(row_step<T>(v.group_in)),
        output_row_(std::min<int64_t>(kPanel<T>, divide_up(v.group_out, W) * W)),
        weight_step_(point_step<T>(v.group_in * kPanel<T>)) {
    cut_units(threads);
    const int64_t fit = kNearNumbers / (kPoints * square_step_ * kTileRows);
    together_ = kTileRows * std::max(kFewTiles, fit);
  }

  int64_t weight_count() const { return v_.groups * panels_ * kPoints * weight_step_; }
  int64_t pack_count() const { return 9 * kWeightRows * kPanel<T>; }
  void prepare(T* packed) { packed_ = packed; }
  int64_t pack_items() const { return v_.groups * panels_ * divide_up(v_.group_in, kWeightRows); }
  void pack(int64_t item, T* taps) const {
    const int64_t blocks = divide_up(v_.group_in, kWeightRows), k = item % blocks * kWeightRows;
    const int64_t panel = item / blocks % panels_, group = item / blocks / panels_, j = panel * kPanel<T>;
    const int64_t count = std::min(kWeightRows, v_.group_in - k), n = std::min<int64_t>(kPanel<T>, v_.group_out - j);
    const T* from = weight_ + group * v_.w_group + j * v_.w_out + k * v_.w_in;
    for (int64_t r = 0; r < 3; r++)
      for (int64_t s = 0; s < 3; s++)
        pack_panel(from + v_.weight_at(r, s), v_.w_in, v_.w_out, count, int(n), kPanel<T>,
                   taps + (3 * r + s) * kWeightRows * kPanel<T>);
    T* to = packed_ + (group * panels_ + panel) * kPoints * weight_step_ + k * kPanel<T>;
    for (int64_t i = 0; i < count; i++)
      for (int64_t at = i * kPanel<T>; at < i * kPanel<T> + n; at += W) transform_weight(taps + at, to + at);
  }

  int64_t units() const { return divide_up(v_.n, images_) * bands_; }
  // Memory of squares that pass together: V, M, the addresses of their rows, of which a tile asks for a few too many,
  // the order of the sums.
  int64_t input_count() const { return kPoints * input_step(); }
  int64_t output_count() const { return kPoints * output_step() + 2 * kTileSize<T>; }
  int64_t order_bytes() const {
    const int64_t blocks = divide_up(v_.group_in, kKBlock);
    return 2 * address_bytes() + align_up(blocks * int64_t(sizeof(KSegment))) +
           align_up(blocks * int64_t(sizeof(Chain)));
  }
  void run(int64_t unit, T* input, T* output, std::byte* memory) const {
    const int64_t image = unit / bands_ * images_, images = std::min(images_, v_.n - image), band = unit % bands_;
    const int64_t begin = band * down_ / bands_, end = (band + 1) * down_ / bands_;
    Work work{.input = input, .output = output, .stack = output + kPoints * output_step()};
    work.row = reinterpret_cast<const T**>(memory);
    work.out = reinterpret_cast<T**>(memory + address_bytes());
    write_order(work, memory + 2 * address_bytes());
    // The squares of a band are neighbours, and so are those of whole images.
    const int64_t first = (image * down_ + begin) * across_, last = ((image + images - 1) * down_ + end) * across_;
    const int64_t times = divide_up(last - first, together_);
    for (int64_t g = 0; g < v_.groups; g++)
      for (int64_t i = 0; i < times; i++) {
        work.first = first + i * (last - first) / times, work.last = first + (i + 1) * (last - first) / times;
        transform_input(work, g);
        for (int64_t panel = 0; panel < panels_; panel++) {
          multiply(work, g, panel);
          transform_output(work, g, panel);
        }
      }
    if (!follow_) return;
    const int64_t rows = std::min(2 * end, v_.rows) - 2 * begin;
    follow_({image * v_.out_image + 2 * begin * v_.out_row, v_.out_image, images, rows * v_.out_row});
  }

 private:
  struct Work {
    T *input, *output, *stack;
    const T** row = nullptr;
    T** out = nullptr;
    SumOrder order{};
    int64_t first = 0, last = 0;  // squares that pass together, counted through all images
  };

  // A unit is a few images or a band of rows of squares.
  void cut_units(int threads) {
    const int64_t units = threads == 1 ? 1 : kUnits * threads, image = v_.rows * v_.out_row * int64_t(sizeof(T));
    if (image > kUnitBytes || v_.n < units) {
      const int64_t bands = std::max(divide_up(image, kUnitBytes), divide_up(units, v_.n));
      bands_ = std::min(down_, bands);
      return;
    }
    images_ = std::min(kUnitBytes / image, v_.n / units);
    images_ = divide_up(v_.n, divide_up(divide_up(v_.n, images_), threads) * threads);  // even shares
  }
  int64_t input_step() const { return point_step<T>(together_ * square_step_); }
  int64_t output_step() const { return point_step<T>(together_ * output_row_); }
  int64_t address_bytes() const { return align_up(together_ * int64_t(sizeof(T*))); }

  void transform_weight(const T* taps, T* to) const {
    Vector<T> g[3][3], u[4][4];
    TW_UNROLL for (int i = 0; i < 9; i++) g[i / 3][i % 3] = load(taps + i * kWeightRows * kPanel<T>);
    winograd_square(g, u, [](const auto& in, auto& out) { winograd_weight(in, out); });
    TW_UNROLL for (int i = 0; i < kPoints; i++) store(to + i * weight_step_, u[i / 4][i % 4]);
  }
  void write_order(Work& work, std::byte* memory) const {
    auto* segment = reinterpret_cast<KSegment*>(memory);
    memory += align_up(divide_up(v_.group_in, kKBlock) * int64_t(sizeof(KSegment)));
    SumOrderWriter w(segment, reinterpret_cast<Chain*>(memory), 1, kPanel<T>, kKBlock);
    w.begin_leaf(0, 1);
    w.add(0, 0, v_.group_in);
    w.end_leaf();
    work.order = w.order();
  }
  void transform_input(const Work& work, int64_t group) const {
    const SquareImages<T> images{
        source_ + group * v_.group_in, v_.in_h, v_.in_w, v_.in_c, v_.tap_h.offset, v_.tap_w.offset};
    each_square_run(down_, across_, work.first, work.last, [&](const SquareRun& run) {
      for (int64_t c = 0; c < v_.group_in; c += W)
        squares_input<T, 0, 4>(images, run, c, int(std::min<int64_t>(W, v_.group_in - c)),
                               work.input + run.t * square_step_ + c, square_step_, input_step());
    });
  }
  void multiply(const Work& work, int64_t group, int64_t panel) const {
    const int64_t squares = work.last - work.first, tiles = divide_up(squares, kTileRows);
    const int64_t low = squares / tiles, tall = squares % tiles;
    const int n = int(std::min<int64_t>(kPanel<T>, v_.group_out - panel * kPanel<T>));
    TileCall<T> call{.b_step = kPanel<T>,
                     .segment = work.order.segment,
                     .first = work.order.chain,
                     .last = work.order.chain + work.order.chains,
                     .stack = work.stack};
    for (int point = 0; point < kPoints; point++) {
      const T* input = work.input + point * input_step();
      T* output = work.output + point * output_step();
      for (int64_t t = 0; t < squares; t++) work.row[t] = input + t * square_step_;
      for (int64_t t = 0; t < squares; t++) work.out[t] = output + t * output_row_;
      call.b = packed_ + ((group * panels_ + panel) * kPoints + point) * weight_step_;
      call.row = work.row, call.out = work.out;
      run_tiles(call, tall, low + 1, n), call.row += tall * (low + 1), call.out += tall * (low + 1);
      run_tiles(call, tiles - tall, low, n);
    }
  }
  static void run_tiles(TileCall<T>& call, int64_t tiles, int64_t rows, int n) {
    if (tiles == 0) return;
    call.tiles = tiles;
    tile_function<T>(TileForm::rows, int(rows), int(divide_up(n, W)))(call);
  }
  void transform_output(const Work& work, int64_t group, int64_t panel) const {
    const int64_t first = group * v_.group_out + panel * kPanel<T>;
    const int64_t n = std::min<int64_t>(kPanel<T>, v_.group_out - panel * kPanel<T>);
    each_square_run(down_, across_, work.first, work.last, [&](const SquareRun& run) {
      const bool lower = 2 * run.i + 1 < v_.rows;
      for (int64_t j = 0; j < n; j += W) {
        const T* from = work.output + run.t * output_row_ + j;
        T* to = out_ + run.image * v_.out_image + 2 * (run.i * v_.out_row + run.begin * v_.out_col) + first + j;
        const int part = int(std::min<int64_t>(W, n - j));
        for (int64_t s = run.begin; s < run.end; s++, from += output_row_, to += 2 * v_.out_col) {
          for (int p : {0, 1})
            for (int q : {0, 1}) __builtin_prefetch(to + p * v_.out_row + (q + 2 * kAhead) * v_.out_col, 1);
          const bool right = 2 * s + 1 < v_.cols;
          if (part == W && lower && right) put<true>(from, first + j, part, lower, right, to);
          else put_edge(from, first + j, part, lower, right, to);
        }
      }
    });
  }
  // The outputs of a square, or, not whole, the first `part` channels of those that lie in the image.
  template <bool whole>
  TW_INLINE void put(const T* from, int64_t channel, int part, bool lower, bool right, T* to) const {
    const int64_t step = output_step();
    Vector<T> m[4][4], y[2][2];
    TW_UNROLL for (int i = 0; i < kPoints; i++) m[i / 4][i % 4] = load(from + i * step);
    winograd_square(m, y, [](const auto& in, auto& out) { winograd_output(in, out); });
    auto at = [part](const T* p) { return whole ? load(p) : load_first(p, part); };
    const Vector<T> bias = bias_ ? at(bias_ + channel) : Vector<T>{};
    TW_UNROLL for (int p = 0; p < 2; p++) TW_UNROLL for (int q = 0; q < 2; q++) {
      if (!whole && ((p == 1 && !lower) || (q == 1 && !right))) continue;
      T* output = to + p * v_.out_row + q * v_.out_col;
      if (bias_) y[p][q] = bias + y[p][q];
      if (accumulate_) y[p][q] = at(output) + y[p][q];
      if (whole) store(output, y[p][q]);
      else store_first(output, y[p][q], part);
    }
  }

  TW_NOINLINE void put_edge(const T* from, int64_t channel, int part, bool lower, bool right, T* to) const {
    put<false>(from, channel, part, lower, right, to);
  }

  const TapConv v_;
  const T *source_, *weight_, *bias_;
  T* out_;
  bool accumulate_;
  const Follow follow_;
  int64_t panels_, down_, across_, square_step_, output_row_, weight_step_, together_, images_ = 1, bands_ = 1;
  T* packed_ = nullptr;
};

}  // namespace

void conv_winograd(const Exec& exec, const TapConv& v, const float* source, const float* weight, const float* bias,
                   float* out, bool accumulate, const Follow& follow) {
  const double ns = conv_ns(v.flops(), false) / kWinogradGain;
  WinogradRun run(v, exec.threads_for(ns), source, weight, bias, out, accumulate, follow);
  run.prepare(exec.scratch<T>(0, Slot::shared_pack, run.weight_count()));
  exec.parallel(run.pack_items(), ns, [&](int64_t item, int worker) {
    run.pack(item, exec.scratch<T>(worker, Slot::a_pack, run.pack_count()));
  });
  exec.parallel(run.units(), ns, [&](int64_t unit, int worker) {
    run.run(unit, exec.scratch<T>(worker, Slot::a_pack, run.input_count()),
            exec.scratch<T>(worker, Slot::tile, run.output_count()),
            exec.scratch<std::byte>(worker, Slot::b_pack, run.order_bytes()));
  });
}

}  // namespace thalweg
