// conv_weight_dense.h: d_w of all other convolutions. For a kernel row r, the (kw, in) neighbours of a pixel are
// contiguous in x, so d_w(out, r, ...) is a product of two matrices with one row a pixel; both are read where they lie,
// x with padding from a copy, and either may be in the lanes.
// Panels: of many channels, the copy is made panel by panel (kPanel channels, in the lanes), for as long as a panel's
// tiles run; each tap is a product then.
// Patches (conv_patches.h): of few channels, all taps are one product. Picked (tile_patches.h): the same, of so few
// that a tile makes the patches itself.
#pragma once
#include "conv_patches.h"
#include "conv_weight.h"
#include "tile_patches.h"

namespace thalweg {

template <class T>
class DenseWeight {
 public:
  using Number = T;
  static constexpr int64_t kSlot = kTileSize<T>;

  DenseWeight(const Conv& v, const T* x, const T* d_y, T* d_w, bool accumulate)
      : v_(v), x_(x), d_y_(d_y), d_w_(d_w), accumulate_(accumulate), p_(v.out_h()), q_(v.out_w()), patch_(v) {
    choose();
    x_parts_ = divide_up(columns_, x_first ? kTileRows : kPanel<T>);
    y_parts_ = divide_up(v.group_out(), x_first ? kPanel<T> : picked() ? PatchTaps<T>::kRows : kTileRows);
    part_tiles_ = taps() * y_parts_;
    x_step = patches() ? patch_.width() : v.stride_w * window_.panel, y_step = v.out;
  }

  bool x_first = false;
  int64_t group = 1, chunk = 1, band = kWholeImages, x_step, y_step;
  T* packed = nullptr;

  int64_t tiles() const { return v_.groups * x_parts_ * part_tiles_; }
  void prepare(int64_t tiles, bool alone) {
    pack_y_ = !alone && pays_to_pack();
    if (pack_y_) y_step = kRowsWidth<T>;
    const int64_t parts = divide_up(tiles - 1, part_tiles_) + 1;
    const int64_t x_count =
        panels() ? std::min(v_.c, parts * kPanel<T>) * v_.h * v_.w + window_.panel_step : image_count();
    const int64_t image_bytes = std::max<int64_t>(1, (x_count + p_ * q_ * v_.out) * int64_t(sizeof(T)));
    const int64_t chains = std::max<int64_t>(1, divide_up(p_ * q_, kKBlock));
    group = std::clamp<int64_t>(kGroupBytes / image_bytes, 1, std::max<int64_t>(1, v_.n));
    // Low tiles are done with an operand sooner than L2 delivers the next one.
    const int64_t rows = x_first ? divide_up(columns_, x_parts_) : divide_up(v_.group_out(), y_parts_);
    const int64_t near = rows <= kLowTile ? kNearBytes : group * image_bytes;
    chunk = std::max<int64_t>(1, std::min(near, 2 * kGroupBytes) * chains / image_bytes);
    if (patches()) group = 1, band = std::max<int64_t>(1, kPatchBytes * chains / image_bytes);
  }
  int64_t x_at(int64_t place, int64_t image, int64_t row) const {
    if (patches()) return row * q_ * patch_.width();
    return (copy() ? place : image) * image_count() + row * v_.stride_h * window_.cols * window_.panel;
  }
  int64_t y_at(int64_t image, int64_t row) const {
    return pack_y_ ? image * packed_image() + row * q_ * kRowsWidth<T> : (image * p_ + row) * q_ * v_.out;
  }
  int64_t packed_count() const { return pack_y_ ? v_.n * packed_image() : 0; }
  void pack(int64_t image) const {
    const int64_t pixels = p_ * q_;
    const T* from = d_y_ + image * pixels * v_.out;
    T* to = packed + image * packed_image();
    for (int64_t p = 0; p < pixels; p++, to += kRowsWidth<T>) {
      T* at = to;
      for (int64_t g = 0; g < v_.groups; g++)
        for (int64_t i = 0; i < y_parts_; i++, at += pixels * kRowsWidth<T>) {
          const int64_t n = (i + 1) * v_.group_out() / y_parts_ - i * v_.group_out() / y_parts_;
          copy_few(from, int(n), at);
          from += n;
        }
    }
  }
  int64_t halo_count() const {
    if (patches()) return patch_numbers() + patch_.window_count(band_rows());
    return copy() ? group * image_count() + kPanel<T> : 0;
  }

  int64_t same_x(int64_t t, int64_t end) const {
    return panels() ? std::min(end, (t / part_tiles_ + 1) * part_tiles_) : end;
  }
  const T* bring(const WeightBand& b, int64_t begin, int64_t, T* halo) const {
    if (patches()) return bring_patches(b, halo);
    if (!copy()) return x_;
    Window w = window_;
    // One panel, at the beginning of `halo`.
    if (panels()) w.first = begin / part_tiles_ * kPanel<T>, w.last = w.first + kPanel<T>, w.panel_step = 0;
    for (int64_t i = 0; i < b.images; i++)
      copy_window(w, x_ + (b.image + i) * v_.h * v_.w * v_.c, halo + i * image_count());
    return halo;
  }
  // d_y of the next images: their first tile reads a few channels of every pixel, which the processor does not foresee.
  // Then x, where it is copied. A step is a segment of a tile.
  Ahead ahead(const WeightBand& b, int64_t next, int64_t last, int64_t tiles) const {
    if (patches() || picked()) return {};
    const int64_t images = std::min(last, next + group) - next, segments = p_;
    const int64_t in_image = v_.h * v_.w * v_.c, out_image = p_ * q_ * v_.out, steps = tiles * b.images * segments;
    return Ahead::of(d_y_ + next * out_image, images * out_image, x_ + next * in_image,
                     copy() && !panels() ? images * in_image : 0, steps);
  }

  void run(int64_t t, const SumOrder& order, const T* x, T* stack, Ahead& ahead) const {
    const TileAt at = tile_at(t);
    const T *const x_tile = x + x_of(at), *const y_tile = y_of(at);
    const int64_t a_step = x_first ? x_step : y_step;
    const TileCall<T> call{.a = x_first ? x_tile : y_tile,
                           .a_step = a_step,
                           .b = x_first ? y_tile : x_tile,
                           .b_step = x_first ? y_step : x_step,
                           .a_ahead = kAheadPixels * a_step,
                           .segment = order.segment,
                           .first = order.chain,
                           .last = order.chain + order.chains,
                           .stack = stack,
                           .ahead = ahead.at,
                           .ahead_lines = ahead.lines};
    if (picked()) return patch_tile(call, PatchTaps<T>::of(v_, window_.cols * v_.c), int(at.outs));
    const TileForm form = v_.kh * v_.kw == 1 ? TileForm::columns_ahead : TileForm::columns;  // no other tap brings it
    for (const Chain* s = call.first; s != call.last; s++) ahead.pass(s->segments);
    const int64_t rows = x_first ? at.columns : at.outs, lanes = x_first ? at.outs : at.columns;
    tile_function<T>(form, int(rows), int(divide_up(lanes, kLanes<T>)))(call);
  }
  void put(int64_t t, const T* sum) const {
    const TileAt at = tile_at(t);
    const int64_t out_step = v_.kh * v_.kw * v_.group_in();
    T* const to = d_w_ + (at.group * v_.group_out() + at.y) * out_step + (at.r * v_.kw + at.s) * v_.group_in() + at.x;
    const int64_t rows = x_first ? at.columns : at.outs, lanes = x_first ? at.outs : at.columns;
    for (int64_t i = 0; i < rows; i++, sum += kPanel<T>)
      for (int64_t j = 0; j < lanes; j++) {
        T& d_w = to[x_first ? i + j * out_step : i * out_step + j];
        d_w = accumulate_ ? d_w + sum[j] : sum[j];
      }
  }

 private:
  static constexpr int64_t kNearBytes = 40 << 10;  // of x and d_y that all low tiles pass first: L1
  static constexpr int64_t kLowTile = 2 * kTileRows / 3;
  static constexpr int64_t kAheadPixels = 32;
  static constexpr double kPanelCost = 1.05;        // of tiles of panels: what their copy saves
  static constexpr int64_t kPatchBytes = 48 << 10;  // of patches and d_y at a time, a chain at least: L1
  static constexpr int64_t kPieceCost = 3;          // of a patch
  static constexpr int64_t kPickCost = 3;           // of a vector of a patch
  static constexpr int64_t kPackUses = 32;          // of packed numbers, at least
  static constexpr int64_t kPackBytes = 48 << 10;   // of what a tile reads: L1
  enum class Reads : uint8_t { in_place, copy, panels, patches, picked };  // x; all but the first from a copy
  struct TileAt {  // columns [x, x + columns) of tap (r, s), or of kernel row r; outputs [y, y + outs)
    int64_t group, r, s, x, columns, y_part, y, outs;
  };

  bool copy() const { return reads_ != Reads::in_place; }
  bool panels() const { return reads_ == Reads::panels; }
  bool patches() const { return reads_ == Reads::patches; }
  bool picked() const { return reads_ == Reads::picked; }

  // Half cycles a pixel, about.
  static int64_t tile_cost(int64_t rows, int64_t columns) {
    const int64_t tiles = divide_up(rows, kTileRows), height = divide_up(rows, tiles);
    const int64_t full = columns / kPanel<T>, rest = divide_up(columns % kPanel<T>, kLanes<T>);
    auto cost = [&](int64_t vectors) { return std::max<int64_t>(8, height * vectors) + 2; };
    return tiles * (full * cost(kTileVectors) + (rest ? cost(rest) : 0));
  }
  void choose() {
    const int64_t out = v_.group_out(), in = v_.group_in();
    const int64_t rows = (p_ - 1) * v_.stride_h + (v_.kh - 1) * v_.dilation_h + 1;
    const int64_t cols = (q_ - 1) * v_.stride_w + (v_.kw - 1) * v_.dilation_w + 1;
    row_taps_ = v_.dilation_w == 1 && v_.groups == 1 ? 1 : v_.kw;
    columns_ = v_.kw / row_taps_ * in;
    choose_patches();
    const int64_t lanes_x = tile_cost(out, columns_), lanes_y = tile_cost(columns_, out);
    x_first = !patches() && !picked() && out % kLanes<T> == 0 && lanes_y < lanes_x;
    // Whole vectors are read: at the end of x there must be something behind the last channels.
    const bool over = !x_first && columns_ % kLanes<T> != 0;
    const bool outside = v_.pad_top > 0 || v_.pad_left > 0 || rows > v_.h || cols > v_.w;
    if (!copy() && (over || outside)) reads_ = Reads::copy;
    if (reads_ == Reads::copy && v_.c > kPanel<T> && in % kPanel<T> == 0) {
      const int64_t cost = v_.kw * tile_cost(out, in), other = row_taps_ * std::min(lanes_x, lanes_y);
      if (double(cost) <= kPanelCost * double(other)) reads_ = Reads::panels;
    }
    if (panels()) x_first = false, row_taps_ = v_.kw, columns_ = in;
    const int64_t panel = panels() ? kPanel<T> : v_.c;
    window_ = {v_.h, v_.w, v_.c, -v_.pad_top, rows, -v_.pad_left, cols, panel, rows * cols * panel, 0, v_.c};
    if (!copy()) window_ = {v_.h, v_.w, v_.c, 0, v_.h, 0, v_.w, v_.c, v_.h * v_.w * v_.c, 0, v_.c};
  }
  int64_t least_cost(int64_t columns) const {
    const int64_t out = v_.group_out(), lanes_x = tile_cost(out, columns);
    return out % kLanes<T> == 0 ? std::min(lanes_x, tile_cost(columns, out)) : lanes_x;
  }
  void choose_patches() {
    const int64_t all = v_.kh * columns_, rows = v_.kh * least_cost(columns_);
    const int64_t patches = Patches<T>::can(v_) ? tile_cost(v_.out, all) + kPieceCost * patch_.pieces() : rows;
    if (PatchTaps<T>::can(v_) && picked_cost() < std::min(rows, patches)) reads_ = Reads::picked;
    else if (patches < rows) reads_ = Reads::patches;
    if (reads_ != Reads::in_place) columns_ = all;
  }
  int64_t picked_cost() const {
    const PatchTaps<T> taps = PatchTaps<T>::of(v_, 0);
    const int64_t tiles = divide_up(v_.out, PatchTaps<T>::kRows), sums = divide_up(v_.out, tiles) * taps.vectors();
    return tiles * (std::max<int64_t>(8, sums) + kPickCost * taps.vectors());
  }
  int64_t band_rows() const { return std::min(p_, (band * kKBlock - 1) / q_ + 2); }  // of outputs, at most
  int64_t patch_numbers() const { return band_rows() * q_ * patch_.width(); }
  const T* bring_patches(const WeightBand& b, T* halo) const {
    if (b.images > 0) patch_.make(x_ + b.image * v_.h * v_.w * v_.c, b.begin, b.end, halo + patch_numbers(), halo);
    return halo - b.begin * q_ * patch_.width();
  }
  // d_y: what a tile reads then lies together, and stays in L1 for all taps; in place its lines are in each other's
  // way.
  bool pays_to_pack() const {
    const int64_t bytes = (p_ * q_ * kRowsWidth<T> + window_.panel_step) * int64_t(sizeof(T));
    return panels() && x_parts_ * v_.kh * v_.kw >= kPackUses && bytes <= kPackBytes;
  }
  int64_t image_count() const {
    return patches() ? p_ * q_ * patch_.width() : panels() ? window_.panel_step : window_.count();
  }
  int64_t taps() const { return (patches() || picked() ? 1 : v_.kh) * row_taps_; }  // that are products of their own

  // All tiles of a part of x follow each other. All taps of a panel are near: they share d_y.
  TileAt tile_at(int64_t t) const {
    const int64_t part = t / part_tiles_;
    const int64_t y = panels() ? t / taps() % y_parts_ : t % y_parts_, tap = (panels() ? t : t / y_parts_) % taps();
    TileAt at{part / x_parts_, tap / row_taps_, tap % row_taps_, 0, 0, y, 0, 0};
    cut(columns_, part % x_parts_, x_parts_, x_first ? 0 : kPanel<T>, at.x, at.columns);
    cut(v_.group_out(), y, y_parts_, x_first ? kPanel<T> : 0, at.y, at.outs);
    return at;
  }
  // Part i of n: full panels, or evenly.
  static void cut(int64_t count, int64_t i, int64_t n, int64_t panel, int64_t& begin, int64_t& size) {
    begin = panel ? i * panel : i * count / n;
    size = panel ? std::min(panel, count - begin) : (i + 1) * count / n - begin;
  }
  int64_t x_of(const TileAt& at) const {
    const int64_t tap = (at.r * v_.dilation_h * window_.cols + at.s * v_.dilation_w) * window_.panel;
    return tap + (panels() ? 0 : at.group * v_.group_in() + at.x);
  }
  const T* y_of(const TileAt& at) const {
    if (!pack_y_) return d_y_ + at.group * v_.group_out() + at.y;
    return packed + (at.group * y_parts_ + at.y_part) * p_ * q_ * kRowsWidth<T>;
  }
  int64_t packed_image() const { return v_.groups * y_parts_ * p_ * q_ * kRowsWidth<T>; }
  // Up to kRowsWidth numbers.
  static void copy_few(const T* from, int n, T* to) {
    for (; n > 0; n -= kLanes<T>, from += kLanes<T>, to += kLanes<T>) {
      const int part = std::min(n, kLanes<T>);
      store_first(to, load_first(from, part), part);
    }
  }

  const Conv v_;
  const T *x_, *d_y_;
  T* d_w_;
  bool accumulate_, pack_y_ = false;
  Reads reads_ = Reads::in_place;
  int64_t p_, q_, columns_, row_taps_, x_parts_, y_parts_, part_tiles_;
  Window window_;
  Patches<T> patch_;
};

}  // namespace thalweg
