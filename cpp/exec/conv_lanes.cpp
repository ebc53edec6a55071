// conv_lanes.cpp: the images of a group are interleaved, element by element, into scratch memory; a tile is a few
// pixels times all outputs, each accumulator one vector of images; the outputs go back to their images at the end.
#include "conv_lanes.h"

#include "conv_regions.h"
#include "pack.h"

namespace thalweg {
namespace {

constexpr int64_t kUnitBytes = 256 << 10;  // of interleaved source and outputs
constexpr int64_t kMinUnits = 16;          // enough for an even share on a few threads

template <class T>
inline constexpr int kFew = kLanes<T> / 2;  // outputs, at most
template <class T>
inline constexpr int kImages = kLanes<T>;
inline constexpr int pixels_of(int outputs) { return (kRegisters - 2) / (outputs + 1); }  // of a tile

template <class T>
struct LaneCall {
  const T* const* pixel;  // the pixel's sources, kImages for every k
  const T* weight;        // [k][outputs]
  const T* bias;
  SumOrder order;
  T* stack;
  T* const* out;
};

template <class T, int kOut, int kPixels>
void run_tile(const LaneCall<T>& c) {
  constexpr int W = kImages<T>, kSize = kPixels * kOut * W;
  for (const Chain *s = c.order.chain, *last = s + c.order.chains; s != last; s++) {
    Vector<T> acc[kPixels][kOut] = {};
    for (const KSegment *g = c.order.segment + s->segment, *end = g + s->segments; g != end; g++) {
      const T* b = c.weight + g->b;
      for (int64_t k = g->a, stop = g->a + g->count * W; k < stop; k += W, b += kOut) {
        Vector<T> x[kPixels];
        TW_UNROLL for (int p = 0; p < kPixels; p++) x[p] = load(c.pixel[p] + k);
        TW_UNROLL for (int o = 0; o < kOut; o++) {
          const Vector<T> w = splat(b[o]);
          TW_UNROLL for (int p = 0; p < kPixels; p++) fma_to(acc[p][o], x[p], w);
        }
      }
    }
    T* slot = c.stack + s->slot * kSize;
    const bool done = s + 1 == last;
    TW_UNROLL for (int p = 0; p < kPixels; p++) TW_UNROLL for (int o = 0; o < kOut; o++) {
      const int at = o * W;
      for (int m = s->adds; m-- > 0;) acc[p][o] = load(slot + m * kSize + p * kOut * W + at) + acc[p][o];
      if (done && c.bias) acc[p][o] = splat(c.bias[o]) + acc[p][o];
      store((done ? c.out[p] : slot + p * kOut * W) + at, acc[p][o]);
    }
  }
}

template <class T>
using LaneTile = void (*)(const LaneCall<T>&);
template <class T, int... kIndex>
LaneTile<T> tile_of(int outputs, bool single, std::integer_sequence<int, kIndex...>) {
  static constexpr LaneTile<T> full[] = {&run_tile<T, kIndex + 1, pixels_of(kIndex + 1)>...};
  static constexpr LaneTile<T> one[] = {&run_tile<T, kIndex + 1, 1>...};
  return (single ? one : full)[outputs - 1];
}
template <class T>
LaneTile<T> tile_of(int outputs, bool single) {
  return tile_of<T>(outputs, single, std::make_integer_sequence<int, kFew<T>>{});
}

template <class T>
class LaneRun {
 public:
  LaneRun(const TapConv& v, const T* source, const T* weight, const T* bias, T* out, bool accumulate)
      : v_(v), source_(source), weight_(weight), bias_(bias), out_(out), accumulate_(accumulate) {
    groups_ = std::max<int64_t>(1, divide_up(v.n, kImages<T>));
    int64_t rows = v.rows;
    while (rows > 1 && bytes(rows) > kUnitBytes) rows = divide_up(rows, 2);
    bands_ = std::max(divide_up(v.rows, rows), std::min(v.rows, divide_up(kMinUnits, groups_)));
    rows_ = divide_up(v.rows, bands_);
  }
  bool fits() const {
    const bool dense = v_.out_col == v_.group_out && v_.out_row == v_.cols * v_.out_col;
    return dense && v_.groups == 1 && v_.group_out <= kFew<T> && v_.taps() > 0 &&
           5 * groups_ * v_.group_out <= 4 * v_.n && bytes(1) <= 2 * kUnitBytes;
  }

  int64_t weight_count() const { return v_.k() * v_.group_out; }
  void pack(T* to) {
    packed_ = to;
    for (int64_t r = 0; r < v_.tap_h.count; r++)
      for (int64_t s = 0; s < v_.tap_w.count; s++)
        for (int64_t c = 0; c < v_.group_in; c++)
          for (int64_t o = 0; o < v_.group_out; o++) *to++ = weight_[v_.weight_at(r, s) + c * v_.w_in + o * v_.w_out];
  }

  int64_t units() const { return groups_ * bands_; }
  int64_t scratch_count() const { return source_count(rows_) + out_count(rows_); }
  void run(int64_t unit, std::byte* order, T* scratch, T* stack) const {
    const int64_t image = unit / bands_ * kImages<T>, band = unit % bands_;
    const int64_t begin = band * v_.rows / bands_, end = (band + 1) * v_.rows / bands_;
    const int lanes = int(std::min<int64_t>(kImages<T>, v_.n - image));
    const int64_t above = std::clamp<int64_t>(begin * v_.step_h + v_.tap_h.offset, 0, v_.in_h);
    const int64_t below = std::clamp<int64_t>((end - 1) * v_.step_h + v_.tap_h.offset + tap_reach(), above, v_.in_h);
    const int64_t row = v_.in_w * v_.in_c, first = above * row;
    pack_panel(source_ + image * v_.in_h * row + first, 1, v_.in_h * row, (below - above) * row, lanes, kImages<T>,
               scratch);
    T* to = scratch + source_count(rows_);
    each_region(v_, begin, end, [&](const Region& region) {
      const LaneCall<T> call{.pixel = nullptr,
                             .weight = packed_,
                             .bias = bias_,
                             .order = region_order(v_, region, kImages<T>, v_.group_out, order),
                             .stack = stack,
                             .out = nullptr};
      run_region(call, region, scratch - first * kImages<T>, to - begin * v_.out_row * kImages<T>);
    });
    unpack_panel(to, kLanes<T>, (end - begin) * v_.out_row, lanes, out_ + image * v_.out_image + begin * v_.out_row,
                 v_.out_image, accumulate_);
  }

 private:
  int64_t tap_reach() const { return (v_.tap_h.count - 1) * v_.tap_h.offset_step + 1; }
  int64_t source_count(int64_t rows) const {
    return std::min(v_.in_h, (rows - 1) * v_.step_h + tap_reach()) * v_.in_w * v_.in_c * kImages<T>;
  }
  int64_t out_count(int64_t rows) const { return rows * v_.cols * v_.group_out * kImages<T>; }
  int64_t bytes(int64_t rows) const { return (source_count(rows) + out_count(rows)) * int64_t(sizeof(T)); }

  // `from` and `to`: where the first image's first source and output would be.
  void run_region(LaneCall<T> call, const Region& region, const T* from, T* to) const {
    const int outputs = int(v_.group_out), full = pixels_of(outputs);
    const T* pixel[kRegisters];
    T* out[kRegisters];
    call.pixel = pixel, call.out = out;
    Walk at = region_walk(v_, region, 0);
    for (int64_t left = region.pixels(); left > 0;) {
      const int count = left >= full ? full : 1;
      at.take(count, [&](int i, int64_t source, int64_t into) {
        pixel[i] = region.empty() ? from : from + source * kImages<T>;
        out[i] = to + into * kImages<T>;
      });
      tile_of<T>(outputs, count == 1)(call);
      left -= count;
    }
  }

  const TapConv v_;
  const T *source_, *weight_, *bias_;
  T* out_;
  bool accumulate_;
  int64_t groups_, bands_, rows_;
  T* packed_ = nullptr;
};

}  // namespace

template <class T>
bool conv_lanes_fit(const TapConv& v) {
  return LaneRun<T>(v, nullptr, nullptr, nullptr, nullptr, false).fits();
}
template <class T>
void conv_lanes(const Exec& exec, const TapConv& v, const T* source, const T* weight, const T* bias, T* out,
                bool accumulate) {
  LaneRun<T> run(v, source, weight, bias, out, accumulate);
  run.pack(exec.scratch<T>(0, Slot::shared_pack, run.weight_count()));
  exec.parallel(run.units(), conv_ns(v.flops(), sizeof(T) == 8), [&](int64_t unit, int worker) {
    run.run(unit, exec.scratch<std::byte>(worker, Slot::a_pack, region_bytes(v)),
            exec.scratch<T>(worker, Slot::b_pack, run.scratch_count()),
            exec.scratch<T>(worker, Slot::tile, kTileSize<T>));
  });
}
template bool conv_lanes_fit<float>(const TapConv&);
template bool conv_lanes_fit<double>(const TapConv&);
template void conv_lanes(const Exec&, const TapConv&, const float*, const float*, const float*, float*, bool);
template void conv_lanes(const Exec&, const TapConv&, const double*, const double*, const double*, double*, bool);

}  // namespace thalweg
