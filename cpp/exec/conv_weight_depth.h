// conv_weight_depth.h: d_w of depthwise convolutions. A tile is a block of taps for a panel of channels
// (tile_depthwise.h). x is read where it lies, or copied panel by panel where its pixels would drive each other out of
// L1; of large images a band of rows at a time.
#pragma once
#include "conv_weight.h"
#include "tile_depthwise.h"

namespace thalweg {

template <class T>
class DepthWeight {
 public:
  using Number = T;
  static constexpr int64_t kSlot = kDepthSize<T>;

  DepthWeight(const Conv& v, const T* x, const T* d_y, T* d_w, bool accumulate)
      : v_(v), x_(x), d_y_(d_y), d_w_(d_w), accumulate_(accumulate), p_(v.out_h()), q_(v.out_w()) {
    wide_ = divide_up(v.kw, kDepthSide), high_ = divide_up(v.kh, kDepthSide);
    panels_ = divide_up(v.c, kPanelWidth);
    const int64_t image_bytes = std::max<int64_t>(1, (v.h * v.w + p_ * q_) * v.c * int64_t(sizeof(T)));
    group = std::clamp<int64_t>(kGroupBytes / image_bytes, 1, std::max<int64_t>(1, v.n));
    const int64_t chains = std::max<int64_t>(1, divide_up(p_ * q_, kKBlock));
    chunk = std::max<int64_t>(1, std::min(kNearBytes, 2 * kGroupBytes) * chains / image_bytes);
    if (image_bytes > kBandBytes) band = std::max<int64_t>(1, chains * kBandBytes / image_bytes);
    x_step = 1, y_step = v.out;
    copies_ = std::gcd(v.c * int64_t(sizeof(T)), kPage) >= kPage / 2;
    if (!copies_) return;
    const int64_t rows = band == kWholeImages ? v.h : input_rows(divide_up(band * kKBlock - 1, q_) + 1);
    window_ = {v.h, v.w, v.c, 0, std::min(v.h, rows), 0, v.w, kPanelWidth, 0, 0, v.c};
    window_.panel_step = window_.rows * v.w * kPanelWidth;
  }

  int64_t group, chunk, band = kWholeImages, x_step, y_step;
  static constexpr bool x_first = true;
  T* packed = nullptr;

  int64_t tiles() const { return panels_ * panel_tiles(); }
  void prepare(int64_t, bool) {}
  int64_t x_at(int64_t, int64_t image, int64_t row) const { return (image * p_ + row) * q_; }  // an output pixel
  int64_t y_at(int64_t image, int64_t row) const { return (image * p_ + row) * q_ * v_.out; }
  int64_t packed_count() const { return 0; }
  void pack(int64_t) const {}
  int64_t halo_count() const { return copies_ ? group * window_.count() : 0; }

  int64_t same_x(int64_t, int64_t end) const { return end; }
  const T* bring(const WeightBand& b, int64_t begin, int64_t end, T* copy) const {
    if (!copies_) return x_;
    Window w = window_;
    if (band != kWholeImages) w.row0 = std::clamp<int64_t>(b.begin * v_.stride_h - v_.pad_top, 0, v_.h - w.rows);
    w.first = begin / panel_tiles() * kPanelWidth;
    w.last = std::min(v_.c, divide_up(end, panel_tiles()) * kPanelWidth);
    for (int64_t i = 0; i < b.images; i++)
      copy_window(w, x_ + (b.image + i) * v_.h * v_.w * v_.c, copy + i * w.count());
    return copy - b.image * w.count() - w.row0 * v_.w * kPanelWidth;
  }
  // x of the next band. A step is kDepthSide pixels of a tile.
  Ahead ahead(const WeightBand& b, int64_t next, int64_t last, int64_t tiles) const {
    const bool whole = band == kWholeImages;
    const int64_t row = v_.w * v_.c, images = std::min(last, next + group) - next;
    const int64_t from = whole ? next * v_.h : (next - 1) * v_.h + std::min(v_.h, b.end * v_.stride_h);
    const int64_t rows = whole ? images * v_.h : (b.end - b.begin) * v_.stride_h;
    Ahead ahead = Ahead::of(x_ + from * row, std::min(rows, last * v_.h - from) * row,
                            tiles * b.rows() * divide_up(q_, kDepthSide));
    ahead.lines = std::min(ahead.lines, kMostLines);
    return ahead;
  }

  void run(int64_t t, const SumOrder& order, const T* x, T* stack, Ahead& ahead) const {
    const TileAt at = tile_at(t);
    DepthWeightCall<T> call{.x = x + at.panel * (copies_ ? window_.panel_step : kPanelWidth),
                            .d_y = d_y_ + at.panel * kPanelWidth,
                            .h = v_.h,
                            .w = v_.w,
                            .x_image = copies_ ? window_.count() : v_.h * v_.w * v_.c,
                            .x_pixel = copies_ ? kPanelWidth : v_.c,
                            .rows = p_,
                            .cols = q_,
                            .y_pixel = v_.out,
                            .step_h = v_.stride_h,
                            .step_w = v_.stride_w,
                            .tap_h = v_.dilation_h,
                            .tap_w = v_.dilation_w,
                            .top = at.r * v_.dilation_h - v_.pad_top,
                            .left = at.s * v_.dilation_w - v_.pad_left,
                            .order = order,
                            .stack = stack,
                            .channels = at.channels,
                            .ahead = ahead.at,
                            .ahead_lines = ahead.lines};
    depthwise_weight_tile(call, at.high, at.wide);
    ahead.at = call.ahead;
  }
  void put(int64_t t, const T* sum) const {
    const TileAt at = tile_at(t);
    const int64_t taps = v_.kh * v_.kw;
    for (int r = 0; r < at.high; r++)
      for (int s = 0; s < at.wide; s++, sum += kPanelWidth)
        for (int j = 0; j < at.channels; j++) {
          T& to = d_w_[(at.panel * kPanelWidth + j) * taps + (at.r + r) * v_.kw + at.s + s];
          to = accumulate_ ? to + sum[j] : sum[j];
        }
  }

 private:
  static constexpr int64_t kPanelWidth = kDepthPanel<T>;
  static constexpr int64_t kBandBytes = 400 << 10;  // of x and d_y of an image: the fewer bands, the less comes twice
  static constexpr int64_t kNearBytes = 40 << 10;   // of these that all tiles pass first: L1
  static constexpr int64_t kPage = 4096;            // pixels so far apart fall into few sets of L1
  static constexpr int kMostLines = 10;             // memory delivers no more of them in the time of a step
  struct TileAt {                                   // taps from (r, s) on: high rows of wide taps
    int64_t panel, r, s;
    int high, wide, channels;
  };

  // Rows of x that so many rows of outputs read.
  int64_t input_rows(int64_t rows) const { return (rows - 1) * v_.stride_h + (v_.kh - 1) * v_.dilation_h + 1; }
  int64_t panel_tiles() const { return high_ * wide_; }
  TileAt tile_at(int64_t t) const {
    const int64_t panel = t / panel_tiles(), high = t % panel_tiles() / wide_, wide = t % wide_;
    const int64_t r = high * v_.kh / high_, s = wide * v_.kw / wide_;
    return {panel,
            r,
            s,
            int((high + 1) * v_.kh / high_ - r),
            int((wide + 1) * v_.kw / wide_ - s),
            int(std::min(kPanelWidth, v_.c - panel * kPanelWidth))};
  }

  const Conv v_;
  const T *x_, *d_y_;
  T* d_w_;
  bool accumulate_, copies_;
  int64_t p_, q_, wide_, high_, panels_;
  Window window_{};
};

}  // namespace thalweg
