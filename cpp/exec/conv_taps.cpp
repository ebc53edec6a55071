// conv_taps.cpp: pixels are the rows of the register tile; their taps are read where they lie, by row pointers.
// Work is cut into units of a few images or a band of rows, whose source (with its halo) stays in L2.
#include "conv_taps.h"

#include "../tensor/arena.h"
#include "halo.h"
#include "matmul.h"
#include "pack.h"
#include "tile.h"

namespace thalweg {
namespace {

constexpr int64_t kUnitBytes = 192 << 10;       // source of a unit
constexpr int64_t kUnitPixels = 4 * kTileRows;  // at least, so that tiles are full
constexpr int64_t kMinUnits = 16;               // enough for an even share on a few threads

struct Span {  // positions along an axis that a run of output pixels reads
  int64_t first, count;
};
Span reach(const TapAxis& tap, int64_t step, int64_t begin, int64_t end) {
  const int64_t last = (end - 1) * step + tap.offset + (tap.count - 1) * tap.offset_step;
  return tap.count ? Span{begin * step + tap.offset, last - (begin * step + tap.offset) + 1} : Span{0, 0};
}

template <class T>
class TapRun {
 public:
  TapRun(const TapConv& v, const T* source, const T* weight, const T* bias, T* out, bool accumulate)
      : v_(v), source_(source), weight_(weight), bias_(bias), out_(out), accumulate_(accumulate) {
    const Span high = reach(v.tap_h, v.step_h, 0, v.rows);
    width_ = reach(v.tap_w, v.step_w, 0, v.cols);
    copy_ =
        high.first < 0 || high.first + high.count > v.in_h || width_.first < 0 || width_.first + width_.count > v.in_w;
    pitch_ = copy_ ? width_.count : v.in_w;
    panels_ = divide_up(v.group_out, kPanel<T>);
    depthwise_ = v.group_in == 1 && v.group_out == 1 && v.groups > 1;
    even_ = v.out_row == v.cols * v.out_col && (v.n == 1 || v.out_image == v.rows * v.out_row);
    cut_units();
  }

  int64_t memory_bytes() const {
    return segment_bytes() + chain_bytes() + table_bytes() + weight_count() * int64_t(sizeof(T));
  }
  void prepare(std::byte* memory) {
    auto* segment = reinterpret_cast<KSegment*>(memory);
    auto* chain = reinterpret_cast<Chain*>(memory + segment_bytes());
    pixel_ = reinterpret_cast<Pixel*>(memory + segment_bytes() + chain_bytes());
    packed_ = reinterpret_cast<T*>(memory + segment_bytes() + chain_bytes() + table_bytes());
    const int64_t b_step = depthwise_ ? v_.groups : kPanel<T>;
    SumOrderWriter w(segment, chain, 1, b_step, kKBlock);
    w.begin_leaf(0, 1);
    for (int64_t r = 0; r < v_.tap_h.count; r++)
      for (int64_t s = 0; s < v_.tap_w.count; s++)
        w.add(tap_offset(r, s), (r * v_.tap_w.count + s) * v_.group_in * b_step, v_.group_in);
    w.end_leaf();
    order_ = w.order();
    fill_table();
  }

  int64_t pack_items() const { return depthwise_ ? 1 : v_.groups * panels_; }
  void pack(int64_t item) const {
    if (depthwise_) pack_depthwise();
    else pack_weight(item / panels_, item % panels_);
  }

  int64_t units() const { return divide_up(v_.n, images_) * bands_; }
  int64_t halo_count() const { return copy_ ? images_ * reach_rows(band_rows_) * pitch_ * v_.in_c : 0; }
  int64_t stack_count() const { return order_.slots * kTileSize<T>; }
  void run(int64_t unit, T* halo, T* stack) const {
    const int64_t image = unit / bands_ * images_, band = unit % bands_;
    const int64_t images = std::min(images_, v_.n - image);
    const int64_t begin = band * v_.rows / bands_, rows = (band + 1) * v_.rows / bands_ - begin;
    const T* from = v_.taps() ? unit_source(image, images, begin, rows, halo) : source_;
    T* to = out_ + image * v_.out_image + begin * v_.out_row;
    // With one image in a unit a band may have fewer rows than the table; with several the table has whole images.
    const int64_t pixels = images * rows * v_.cols;
    if (depthwise_) return run_depthwise(from, to, pixels, stack);
    for (int64_t g = 0; g < v_.groups; g++)
      for (int64_t panel = 0; panel < panels_; panel++) run_panel(g, panel, from, to, pixels, stack);
  }

 private:
  struct Pixel {  // of a unit: where its first tap and its output lie
    int64_t source, out;
  };

  int64_t max_segments() const { return v_.taps() + v_.k() / kKBlock + 1; }
  int64_t segment_bytes() const { return align_up(max_segments() * int64_t(sizeof(KSegment))); }
  int64_t chain_bytes() const { return align_up((v_.k() / kKBlock + 1) * int64_t(sizeof(Chain))); }
  int64_t table_bytes() const { return align_up(images_ * band_rows_ * v_.cols * int64_t(sizeof(Pixel))); }
  int64_t weight_count() const { return depthwise_ ? v_.taps() * v_.groups : v_.groups * panels_ * v_.k() * kPanel<T>; }
  int64_t reach_rows(int64_t rows) const { return reach(v_.tap_h, v_.step_h, 0, rows).count; }
  int64_t tap_offset(int64_t r, int64_t s) const {
    return (r * v_.tap_h.offset_step * pitch_ + s * v_.tap_w.offset_step) * v_.in_c;
  }
  int64_t tap_weight(int64_t r, int64_t s) const {
    return (v_.tap_h.kernel + r * v_.tap_h.kernel_step) * v_.w_row +
           (v_.tap_w.kernel + s * v_.tap_w.kernel_step) * v_.w_col;
  }

  void cut_units() {
    const int64_t row_bytes = std::max<int64_t>(1, v_.step_h * pitch_ * v_.in_c * int64_t(sizeof(T)));
    const int64_t least = std::min(v_.rows, divide_up(kUnitPixels, v_.cols));
    int64_t rows = std::max(least, std::min(v_.rows, kUnitBytes / row_bytes));
    rows = std::max(least, std::min(rows, divide_up(v_.rows, divide_up(kMinUnits, v_.n))));
    bands_ = divide_up(v_.rows, rows);
    band_rows_ = divide_up(v_.rows, bands_);
    images_ = 1;
    const int64_t pixels = v_.rows * v_.cols, bytes = v_.rows * row_bytes;
    if (bands_ == 1 && pixels < kUnitPixels)
      images_ = std::max<int64_t>(1, std::min({v_.n, divide_up(kUnitPixels, pixels), kUnitBytes / bytes}));
  }

  void fill_table() {
    const int64_t image = copy_ ? reach_rows(band_rows_) * pitch_ * v_.in_c : v_.in_h * v_.in_w * v_.in_c;
    Pixel* pixel = pixel_;
    for (int64_t i = 0; i < images_; i++)
      for (int64_t p = 0; p < band_rows_; p++)
        for (int64_t q = 0; q < v_.cols; q++)
          *pixel++ = {i * image + (p * v_.step_h * pitch_ + q * v_.step_w) * v_.in_c,
                      i * v_.out_image + p * v_.out_row + q * v_.out_col};
  }

  // The address of the first tap of a unit's first pixel.
  const T* unit_source(int64_t image, int64_t images, int64_t begin, int64_t rows, T* halo) const {
    const Span high = reach(v_.tap_h, v_.step_h, begin, begin + rows);
    const T* from = source_ + image * v_.in_h * v_.in_w * v_.in_c;
    if (!copy_) return from + (high.first * v_.in_w + width_.first) * v_.in_c;
    const Window window{v_.in_h, v_.in_w, v_.in_c, high.first, high.count, width_.first, width_.count};
    for (int64_t i = 0; i < images; i++)
      copy_window(window, from + i * v_.in_h * v_.in_w * v_.in_c, halo + i * window.count());
    return halo;
  }

  void pack_weight(int64_t group, int64_t panel) const {
    const int64_t j = panel * kPanel<T>, k = v_.k();
    const int n = int(std::min<int64_t>(kPanel<T>, v_.group_out - j));
    const T* from = weight_ + group * v_.w_group + j * v_.w_out;
    T* to = packed_ + (group * panels_ + panel) * k * kPanel<T>;
    const bool one_run = v_.w_in == 1 && v_.tap_h.kernel_step == 1 && v_.tap_w.kernel_step == 1 &&
                         v_.w_col == v_.group_in && v_.w_row == v_.tap_w.count * v_.w_col;
    if (one_run) return pack_panel(from + tap_weight(0, 0), 1, v_.w_out, k, n, kPanel<T>, to);
    for (int64_t r = 0; r < v_.tap_h.count; r++)
      for (int64_t s = 0; s < v_.tap_w.count; s++, to += v_.group_in * kPanel<T>)
        pack_panel(from + tap_weight(r, s), v_.w_in, v_.w_out, v_.group_in, n, kPanel<T>, to);
  }
  void pack_depthwise() const {  // [tap][channel]
    T* to = packed_;
    for (int64_t r = 0; r < v_.tap_h.count; r++)
      for (int64_t s = 0; s < v_.tap_w.count; s++)
        for (int64_t g = 0; g < v_.groups; g++) *to++ = weight_[g * v_.w_group + tap_weight(r, s)];
  }

  void run_panel(int64_t group, int64_t panel, const T* from, T* to, int64_t pixels, T* stack) const {
    const int64_t j = panel * kPanel<T>, n = std::min<int64_t>(kPanel<T>, v_.group_out - j);
    const int64_t column = group * v_.group_out + j, tiles = divide_up(pixels, kTileRows);
    const bool direct = even_ && n % kLanes<T> == 0;
    const T* row[kTileRows];
    TileCall<T> call{.row = row,
                     .b = packed_ + (group * panels_ + panel) * v_.k() * kPanel<T>,
                     .b_step = kPanel<T>,
                     .segment = order_.segment,
                     .first = order_.chain,
                     .last = order_.chain + order_.chains,
                     .stack = stack,
                     .out_step = v_.out_col,
                     .bias = bias_ ? bias_ + column : nullptr,
                     .accumulate = accumulate_};
    for (int64_t t = 0; t < tiles; t++) {
      const int64_t first = t * pixels / tiles;
      const int rows = int((t + 1) * pixels / tiles - first);
      const Pixel* pixel = pixel_ + first;
      for (int i = 0; i < rows; i++) row[i] = from + pixel[i].source + group * v_.group_in;
      if (direct) call.out = to + pixel[0].out + column;
      tile_function<T>(TileForm::rows, rows, int(divide_up(n, kLanes<T>)))(call);
      for (int i = 0; i < rows && !direct; i++)
        put_row(stack + i * kPanel<T>, n, call.bias, accumulate_, to + pixel[i].out + column);
    }
  }

  void run_depthwise(const T* from, T* to, int64_t pixels, T* stack) const {
    TileCall<T> call{.segment = order_.segment,
                     .first = order_.chain,
                     .last = order_.chain + order_.chains,
                     .stack = stack,
                     .accumulate = accumulate_};
    for (const Pixel* pixel = pixel_; pixel != pixel_ + pixels; pixel++)
      for (int64_t j = 0; j < v_.groups; j += kLaneTile<T>) {
        call.a = from + pixel->source + j;
        call.b = packed_ + j;
        call.out = to + pixel->out + j;
        call.bias = bias_ ? bias_ + j : nullptr;
        lane_tile(call, int(std::min<int64_t>(kLaneTile<T>, v_.groups - j)));
      }
  }

  const TapConv v_;
  const T *source_, *weight_, *bias_;
  T* out_;
  bool accumulate_, copy_, depthwise_, even_;
  Span width_;
  int64_t pitch_, panels_, bands_, band_rows_, images_;
  Pixel* pixel_ = nullptr;
  T* packed_ = nullptr;
  SumOrder order_;
};

}  // namespace

template <class T>
void conv_taps(const Exec& exec, const TapConv& v, const T* source, const T* weight, const T* bias, T* out,
               bool accumulate) {
  if (v.n == 0 || v.rows == 0 || v.cols == 0 || v.group_out == 0) return;
  TapRun<T> run(v, source, weight, bias, out, accumulate);
  const double outputs = double(v.n * v.rows * v.cols) * double(v.groups * v.group_out);
  const double ns = conv_ns(2 * outputs * double(v.k() + 1), sizeof(T) == 8);
  run.prepare(exec.scratch<std::byte>(0, Slot::shared_pack, run.memory_bytes()));
  exec.parallel(run.pack_items(), ns, [&](int64_t item, int) { run.pack(item); });
  exec.parallel(run.units(), ns, [&](int64_t unit, int worker) {
    run.run(unit, exec.scratch<T>(worker, Slot::a_pack, run.halo_count()),
            exec.scratch<T>(worker, Slot::tile, run.stack_count()));
  });
}
template void conv_taps(const Exec&, const TapConv&, const float*, const float*, const float*, float*, bool);
template void conv_taps(const Exec&, const TapConv&, const double*, const double*, const double*, double*, bool);

double conv_ns(double flops, bool is_double) { return flops / (is_double ? 1.0 : 2.0) / (kVectorBytes / 4 * 2.5); }

}  // namespace thalweg
