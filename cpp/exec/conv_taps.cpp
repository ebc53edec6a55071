// conv_taps.cpp: pixels are the rows of the register tile; their taps are read where they lie, by row pointers.
// Work is cut into units of a few images or a band of rows, whose source stays in L2; a unit into regions (the
// interior, edges, corners) whose pixels have the same taps inside the image: nothing is padded, copied or multiplied
// by zero. Depthwise, both the pixels of a tile and its channels are many (tile_depthwise.h).
#include "conv_taps.h"

#include "conv_lanes.h"
#include "conv_regions.h"
#include "pack.h"
#include "tile.h"
#include "tile_depthwise.h"

namespace thalweg {
namespace {

constexpr int64_t kUnitBytes = 192 << 10;       // source of a unit
constexpr int64_t kWeightBytes = 384 << 10;     // that stay in L2 while pixels pass
constexpr int64_t kUnitPixels = 4 * kTileRows;  // at least, so that tiles are full
constexpr int64_t kMinUnits = 16;               // enough for an even share on a few threads
constexpr int64_t kFarUnitBytes = 1 << 20;      // of a unit through which more weights pass than stay
constexpr int64_t kFewTiles = 8;                // of pixels that pass at a time

template <class T>
class TapRun {
 public:
  TapRun(const TapConv& v, int threads, const T* source, const T* weight, const T* bias, T* out, bool accumulate,
         const Follow& follow)
      : v_(v), source_(source), weight_(weight), bias_(bias), out_(out), accumulate_(accumulate), follow_(follow) {
    panels_ = divide_up(v.group_out, kPanel<T>);
    depthwise_ = v.depthwise();
    b_step_ = depthwise_ ? v.groups : kPanel<T>;
    cut_units(threads);
  }

  int64_t weight_count() const { return depthwise_ ? v_.taps() * v_.groups : v_.groups * panels_ * v_.k() * kPanel<T>; }
  void prepare(T* packed) { packed_ = packed; }
  int64_t pack_items() const { return depthwise_ ? 1 : v_.groups * panels_; }
  void pack(int64_t item) const {
    if (depthwise_) pack_depthwise();
    else pack_weight(item / panels_, item % panels_);
  }

  int64_t units() const { return divide_up(v_.n, images_) * bands_; }
  int64_t order_bytes() const { return region_bytes(v_); }
  int64_t stack_count() const { return std::max(kTileSize<T>, kDepthSize<T>); }
  void run(int64_t unit, std::byte* order, T* stack) const {
    const int64_t image = unit / bands_ * images_, band = unit % bands_;
    Work work{image, std::min(images_, v_.n - image), false, {}, stack};
    each_region(v_, band * v_.rows / bands_, (band + 1) * v_.rows / bands_, [&](const Region& region) {
      work.empty = region.empty();
      work.order = region_order(v_, region, 1, b_step_, order, !depthwise_ && region_pieces(v_, region));
      run_region(work, region);
    });
    if (follow_) {
      const int64_t first = band * v_.rows / bands_, rows = (band + 1) * v_.rows / bands_ - first;
      follow_({work.image * v_.out_image + first * v_.out_row, v_.out_image, work.images, rows * v_.out_row});
    }
  }

 private:
  struct Work {  // images [image, image + images)
    int64_t image, images;
    bool empty;  // no tap of the region is inside
    SumOrder order;
    T* stack;
  };
  // A unit is a few images, so that even their corners fill a tile, or a band of rows. Weights that don't stay in L2
  // come anew for every unit: then it is as large as L2 allows. One thread shares with nobody, but what follows is to
  // find its outputs in L2.
  void cut_units(int threads) {
    const bool far = panels_ * panel_bytes() > kWeightBytes && !depthwise_;
    const int64_t most = far ? kFarUnitBytes : kUnitBytes,
                  units = far || (threads == 1 && !follow_) ? threads : kMinUnits;
    const int64_t row_bytes = std::max<int64_t>(1, v_.step_h * v_.in_w * v_.in_c * int64_t(sizeof(T)));
    const int64_t least = std::min(v_.rows, divide_up(kUnitPixels, v_.cols));
    int64_t rows = std::max(least, std::min(v_.rows, most / row_bytes));
    rows = std::max(least, std::min(rows, divide_up(v_.rows, divide_up(units, v_.n))));
    bands_ = divide_up(v_.rows, rows);
    images_ = 1;
    if (bands_ > 1) return;
    const int64_t few = divide_up(kUnitPixels, v_.rows * v_.cols), fit = most / (v_.rows * row_bytes);
    images_ = std::clamp<int64_t>(std::min(std::max(few, v_.n / units), fit), 1, v_.n);
    if (far) images_ = divide_up(v_.n, divide_up(divide_up(v_.n, images_), threads) * threads);  // even shares
  }
  int64_t panel_bytes() const { return v_.k() * kPanel<T> * int64_t(sizeof(T)); }

  void pack_weight(int64_t group, int64_t panel) const {
    const int64_t j = panel * kPanel<T>, k = v_.k();
    const int n = int(std::min<int64_t>(kPanel<T>, v_.group_out - j));
    const T* from = weight_ + group * v_.w_group + j * v_.w_out;
    T* to = packed_ + (group * panels_ + panel) * k * kPanel<T>;
    const bool one_run = v_.w_in == 1 && v_.tap_h.kernel_step == 1 && v_.tap_w.kernel_step == 1 &&
                         v_.w_col == v_.group_in && v_.w_row == v_.tap_w.count * v_.w_col;
    if (one_run) return pack_panel(from + v_.weight_at(0, 0), 1, v_.w_out, k, n, kPanel<T>, to);
    for (int64_t r = 0; r < v_.tap_h.count; r++)
      for (int64_t s = 0; s < v_.tap_w.count; s++, to += v_.group_in * kPanel<T>)
        pack_panel(from + v_.weight_at(r, s), v_.w_in, v_.w_out, v_.group_in, n, kPanel<T>, to);
  }
  void pack_depthwise() const {  // [tap][channel]
    T* to = packed_;
    for (int64_t r = 0; r < v_.tap_h.count; r++)
      for (int64_t s = 0; s < v_.tap_w.count; s++)
        for (int64_t g = 0; g < v_.groups; g++) *to++ = weight_[g * v_.w_group + v_.weight_at(r, s)];
  }

  TileCall<T> call_of(const Work& work) const {
    return {.b_step = b_step_,
            .segment = work.order.segment,
            .first = work.order.chain,
            .last = work.order.chain + work.order.chains,
            .stack = work.stack,
            .accumulate = accumulate_,
            .out_rows = out_rows_a_step(v_.k())};
  }
  void run_region(const Work& work, const Region& region) const {
    const Walk first = region_walk(v_, region, work.image);
    if (depthwise_) return run_depthwise(work, first);
    const int64_t pixels = work.images * region.pixels();
    const int64_t some = std::max<int64_t>(1, kWeightBytes / (panel_bytes() + 1));
    for (int64_t g = 0; g < v_.groups; g++)
      for (int64_t panel = 0; panel < panels_; panel += some)
        run_panels(work, g, panel, std::min(panels_, panel + some), first, pixels);
  }

  // Panels [begin, end) of every pixel, a few tiles of pixels at a time. One panel passes them in one call, as what is
  // done once for a call is dear beside the sums of a short K; several panels read the source of a tile in L1.
  void run_panels(const Work& work, int64_t group, int64_t begin, int64_t end, const Walk& first,
                  int64_t pixels) const {
    const T* row[kFewTiles * kTileRows + RowWalk<T>::kRun] = {};  // a tile asks for a few too many
    T* out[kFewTiles * kTileRows + RowWalk<T>::kRun];
    RowWalk<T> at(first, source_ + group * v_.group_in, out_ + group * v_.group_out + begin * kPanel<T>);
    const int64_t tiles = divide_up(pixels, kTileRows), low = pixels / tiles, tall = pixels % tiles;
    TileCall<T> call = call_of(work);
    for (int64_t t = 0, few; t < tiles; t += few) {
      const int rows = int(low + (t < tall));
      few = std::min(kFewTiles, (t < tall ? tall : tiles) - t);
      at.take(few * rows, row, out);
      call.tiles = end - begin == 1 ? few : 1;
      for (int64_t i = 0; i < few; i += call.tiles) {
        call.row = row + i * rows;
        call.follows = i + call.tiles < few;
        for (int64_t panel = begin; panel < end; panel++) {
          call.out_ahead = panel + 1 < end ? kPanel<T> : rows * v_.out_col - (end - 1 - begin) * kPanel<T>;
          run_tiles(call, group, panel, rows, work.empty, out + i * rows);
        }
      }
    }
  }
  // ask: for the outputs before the sums, as there are none.
  void run_tiles(TileCall<T>& call, int64_t group, int64_t panel, int rows, bool ask, T** out) const {
    const int64_t j = panel * kPanel<T>, n = std::min<int64_t>(kPanel<T>, v_.group_out - j), pixels = call.tiles * rows;
    const TileFunction<T> tile = tile_function<T>(TileForm::rows, rows, int(divide_up(n, kLanes<T>)));
    call.b = packed_ + (group * panels_ + panel) * v_.k() * kPanel<T>;
    call.bias = bias_ ? bias_ + group * v_.group_out + j : nullptr;
    if (ask)
      for (int64_t i = 0; i < pixels; i++)
        for (int64_t c = 0; c < n; c += kLanes<T>) __builtin_prefetch(out[i] + c, 1);
    if (n % kLanes<T> == 0) {
      call.out = out;
      tile(call);
    } else {
      TileCall<T> one = call;
      one.tiles = 1, one.out = nullptr;
      for (T** to = out; to != out + pixels; to += rows, one.row += rows) {
        one.follows = call.follows || to + rows != out + pixels;
        tile(one);
        for (int i = 0; i < rows; i++) put_row(one.stack + i * kPanel<T>, n, one.bias, accumulate_, to[i]);
      }
    }
    if (panel + 1 == panels_) return;
    for (int64_t i = 0; i < pixels; i++) out[i] += n;
  }

  void run_depthwise(const Work& work, const Walk& at) const {
    const int64_t row = at.source_row + at.cols * at.source_col, out_row = at.out_row + at.cols * at.out_col;
    const DepthwiseCall<T> call{.a = source_ + at.source,
                                .a_step = v_.tap_w.offset_step * v_.in_c,
                                .b = packed_,
                                .b_step = b_step_,
                                .order = work.order,
                                .stack = work.stack,
                                .channels = v_.groups,
                                .out = out_ + at.out,
                                .bias = bias_,
                                .accumulate = accumulate_};
    depthwise_pixels(call, {work.images, at.source_image + at.rows * row, at.out_image + at.rows * out_row},
                     {at.rows, row, out_row}, {at.cols, at.source_col, at.out_col});
  }

  const TapConv v_;
  const T *source_, *weight_, *bias_;
  T* out_;
  bool accumulate_, depthwise_;
  const Follow follow_;
  int64_t panels_, b_step_, bands_, images_;
  T* packed_ = nullptr;
};

}  // namespace

template <class T>
void conv_taps(const Exec& exec, const TapConv& v, const T* source, const T* weight, const T* bias, T* out,
               bool accumulate, const Follow& follow) {
  if (v.n == 0 || v.rows == 0 || v.cols == 0 || v.group_out == 0) return;
  if (conv_lanes_fit<T>(v)) return conv_lanes(exec, v, source, weight, bias, out, accumulate);
  const double ns = conv_ns(v.flops(), sizeof(T) == 8);
  TapRun<T> run(v, exec.threads_for(ns), source, weight, bias, out, accumulate, follow);
  run.prepare(exec.scratch<T>(0, Slot::shared_pack, run.weight_count()));
  exec.parallel(run.pack_items(), ns, [&](int64_t item, int) { run.pack(item); });
  exec.parallel(run.units(), ns, [&](int64_t unit, int worker) {
    run.run(unit, exec.scratch<std::byte>(worker, Slot::a_pack, run.order_bytes()),
            exec.scratch<T>(worker, Slot::tile, run.stack_count()));
  });
}
template void conv_taps(const Exec&, const TapConv&, const float*, const float*, const float*, float*, bool,
                        const Follow&);
template void conv_taps(const Exec&, const TapConv&, const double*, const double*, const double*, double*, bool,
                        const Follow&);

template <class T>
bool conv_taps_follows(const TapConv& v) {
  const bool whole_rows = v.out_col == v.groups * v.group_out && v.out_row == v.cols * v.out_col;
  return whole_rows && !conv_lanes_fit<T>(v);
}
template bool conv_taps_follows<float>(const TapConv&);
template bool conv_taps_follows<double>(const TapConv&);

double conv_ns(double flops, bool is_double) { return flops / (is_double ? 1.0 : 2.0) / (kVectorBytes / 4 * 2.5); }

}  // namespace thalweg
