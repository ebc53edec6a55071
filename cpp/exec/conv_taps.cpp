// conv_taps.cpp: pixels are the rows of the register tile; their taps are read where they lie, by row pointers.
// Work is cut into units of a few images or a band of rows, whose source stays in L2; a unit into regions (the
// interior, edges, corners) whose pixels have the same taps inside the image: nothing is padded, copied or multiplied
// by zero.
#include "conv_taps.h"

#include "matmul.h"
#include "pack.h"
#include "tile.h"

namespace thalweg {
namespace {

constexpr int64_t kUnitBytes = 192 << 10;       // source of a unit
constexpr int64_t kWeightBytes = 384 << 10;     // that stay in L2 while pixels pass
constexpr int64_t kUnitPixels = 4 * kTileRows;  // at least, so that tiles are full
constexpr int64_t kMinUnits = 16;               // enough for an even share on a few threads

// Positions [begin, end) of an axis of outputs, whose taps [first, last) and no others lie in the image.
struct Stretch {
  int64_t begin, end, first, last;
  int64_t count() const { return end - begin; }
  bool same_taps(const Stretch& s) const { return first == s.first && last == s.last; }
};
Stretch stretch_at(const TapAxis& tap, int64_t step, int64_t extent, int64_t position) {
  const int64_t at = position * step + tap.offset;
  const int64_t first = at >= 0 ? 0 : divide_up(-at, tap.offset_step);
  const int64_t last = at >= extent ? 0 : std::min(tap.count, (extent - 1 - at) / tap.offset_step + 1);
  return first < last ? Stretch{position, position + 1, first, last} : Stretch{position, position + 1, 0, 0};
}
// f(stretch) for the longest stretches that make up [begin, end).
template <class F>
void each_stretch(const TapAxis& tap, int64_t step, int64_t extent, int64_t begin, int64_t end, F f) {
  while (begin < end) {
    Stretch s = stretch_at(tap, step, extent, begin);
    while (s.end < end && stretch_at(tap, step, extent, s.end).same_taps(s)) s.end++;
    f(s);
    begin = s.end;
  }
}

template <class T>
class TapRun {
 public:
  TapRun(const TapConv& v, const T* source, const T* weight, const T* bias, T* out, bool accumulate)
      : v_(v), source_(source), weight_(weight), bias_(bias), out_(out), accumulate_(accumulate) {
    panels_ = divide_up(v.group_out, kPanel<T>);
    depthwise_ = v.group_in == 1 && v.group_out == 1 && v.groups > 1;
    b_step_ = depthwise_ ? v.groups : kPanel<T>;
    cut_units();
  }

  int64_t weight_count() const { return depthwise_ ? v_.taps() * v_.groups : v_.groups * panels_ * v_.k() * kPanel<T>; }
  void prepare(T* packed) { packed_ = packed; }
  int64_t pack_items() const { return depthwise_ ? 1 : v_.groups * panels_; }
  void pack(int64_t item) const {
    if (depthwise_) pack_depthwise();
    else pack_weight(item / panels_, item % panels_);
  }

  int64_t units() const { return divide_up(v_.n, images_) * bands_; }
  int64_t order_bytes() const {
    return max_segments() * int64_t(sizeof(KSegment)) + (v_.k() / kKBlock + 1) * int64_t(sizeof(Chain));
  }
  int64_t stack_count() const { return kTileSize<T>; }
  void run(int64_t unit, std::byte* order, T* stack) const {
    const int64_t image = unit / bands_ * images_, band = unit % bands_;
    Work work{image, std::min(images_, v_.n - image), {}, stack};
    each_stretch(v_.tap_h, v_.step_h, v_.in_h, band * v_.rows / bands_, (band + 1) * v_.rows / bands_,
                 [&](const Stretch& high) {
                   each_stretch(v_.tap_w, v_.step_w, v_.in_w, 0, v_.cols, [&](const Stretch& wide) {
                     work.order = write_order(high, wide, order);
                     run_region(work, high, wide);
                   });
                 });
  }

 private:
  struct Work {  // images [image, image + images)
    int64_t image, images;
    SumOrder order;
    T* stack;
  };
  // Walks over the pixels of a region, image by image: where the first tap that lies in the image is, and the output.
  struct Walk {
    int64_t source, out, source_col, out_col, source_row, out_row, source_image, out_image, cols, rows;
    int64_t col = 0, row = 0;
    void next() {
      source += source_col, out += out_col;
      if (++col < cols) return;
      col = 0, source += source_row, out += out_row;
      if (++row < rows) return;
      row = 0, source += source_image, out += out_image;
    }
  };

  int64_t max_segments() const { return v_.taps() + v_.k() / kKBlock + 1; }
  int64_t tap_weight(int64_t r, int64_t s) const {
    return (v_.tap_h.kernel + r * v_.tap_h.kernel_step) * v_.w_row +
           (v_.tap_w.kernel + s * v_.tap_w.kernel_step) * v_.w_col;
  }

  // A unit is a few images, so that even their corners fill a tile, or a band of rows.
  void cut_units() {
    const int64_t row_bytes = std::max<int64_t>(1, v_.step_h * v_.in_w * v_.in_c * int64_t(sizeof(T)));
    const int64_t least = std::min(v_.rows, divide_up(kUnitPixels, v_.cols));
    int64_t rows = std::max(least, std::min(v_.rows, kUnitBytes / row_bytes));
    rows = std::max(least, std::min(rows, divide_up(v_.rows, divide_up(kMinUnits, v_.n))));
    bands_ = divide_up(v_.rows, rows);
    images_ = 1;
    if (bands_ > 1) return;
    const int64_t few = divide_up(kUnitPixels, v_.rows * v_.cols), fit = kUnitBytes / (v_.rows * row_bytes);
    images_ = std::clamp<int64_t>(std::min(std::max(few, v_.n / kMinUnits), fit), 1, v_.n);
  }

  // K of the pixels of a region: every tap counts, those outside the image are left out.
  SumOrder write_order(const Stretch& high, const Stretch& wide, std::byte* memory) const {
    auto* segment = reinterpret_cast<KSegment*>(memory);
    SumOrderWriter w(segment, reinterpret_cast<Chain*>(segment + max_segments()), 1, b_step_, kKBlock);
    w.begin_leaf(0, 1);
    for (int64_t r = 0; r < v_.tap_h.count; r++)
      for (int64_t s = 0; s < v_.tap_w.count; s++) {
        const int64_t down = (r - high.first) * v_.tap_h.offset_step, right = (s - wide.first) * v_.tap_w.offset_step;
        if (r < high.first || r >= high.last || s < wide.first || s >= wide.last) w.skip(v_.group_in);
        else w.add((down * v_.in_w + right) * v_.in_c, (r * v_.tap_w.count + s) * v_.group_in * b_step_, v_.group_in);
      }
    w.end_leaf();
    return w.order();
  }

  Walk walk(const Work& work, const Stretch& high, const Stretch& wide) const {
    const int64_t col = v_.step_w * v_.in_c, row = v_.step_h * v_.in_w * v_.in_c, image = v_.in_h * v_.in_w * v_.in_c;
    const int64_t down = high.begin * v_.step_h + v_.tap_h.offset + high.first * v_.tap_h.offset_step;
    const int64_t right = wide.begin * v_.step_w + v_.tap_w.offset + wide.first * v_.tap_w.offset_step;
    const bool any = high.first < high.last && wide.first < wide.last;
    Walk w{.source = any ? work.image * image + (down * v_.in_w + right) * v_.in_c : 0,
           .out = work.image * v_.out_image + high.begin * v_.out_row + wide.begin * v_.out_col,
           .source_col = col,
           .out_col = v_.out_col,
           .source_row = row - wide.count() * col,
           .out_row = v_.out_row - wide.count() * v_.out_col,
           .source_image = image - high.count() * row,
           .out_image = v_.out_image - high.count() * v_.out_row,
           .cols = wide.count(),
           .rows = high.count()};
    if (!any) w.source_col = w.source_row = w.source_image = 0;
    return w;
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

  TileCall<T> call_of(const Work& work) const {
    return {.b_step = b_step_,
            .segment = work.order.segment,
            .first = work.order.chain,
            .last = work.order.chain + work.order.chains,
            .stack = work.stack,
            .accumulate = accumulate_};
  }
  void run_region(const Work& work, const Stretch& high, const Stretch& wide) const {
    const Walk first = walk(work, high, wide);
    const int64_t pixels = work.images * high.count() * wide.count();
    if (depthwise_) return run_depthwise(work, first, pixels);
    const int64_t some = std::max<int64_t>(1, kWeightBytes / (v_.k() * kPanel<T> * int64_t(sizeof(T)) + 1));
    for (int64_t g = 0; g < v_.groups; g++)
      for (int64_t panel = 0; panel < panels_; panel += some)
        run_panels(work, g, panel, std::min(panels_, panel + some), first, pixels);
  }

  // Panels [begin, end) of every pixel.
  void run_panels(const Work& work, int64_t group, int64_t begin, int64_t end, Walk at, int64_t pixels) const {
    const int64_t tiles = divide_up(pixels, kTileRows);
    const T* row[kTileRows];
    T* out[kTileRows];
    TileCall<T> call = call_of(work);
    call.row = row;
    for (int64_t t = 0; t < tiles; t++) {
      const int rows = int((t + 1) * pixels / tiles - t * pixels / tiles);
      for (int i = 0; i < rows; i++, at.next()) {
        row[i] = source_ + at.source + group * v_.group_in;
        out[i] = out_ + at.out + group * v_.group_out + begin * kPanel<T>;
      }
      prefetch_next(row, rows);
      for (int64_t panel = begin; panel < end; panel++) run_tile(call, group, panel, rows, out);
    }
  }
  // What the next tile reads first of all, where pixels fill cache lines.
  void prefetch_next(const T* const* row, int rows) const {
    constexpr int64_t kLine = 64 / sizeof(T);
    const int64_t last = ((v_.tap_h.count - 1) * v_.tap_h.offset_step * v_.in_w +
                          (v_.tap_w.count - 1) * v_.tap_w.offset_step + kTileRows * v_.step_w) *
                         v_.in_c;
    for (int i = 0; i < rows; i++)
      for (int64_t c = kLine - 1; c < v_.group_in; c += kLine) __builtin_prefetch(row[i] + last + c);
  }
  void run_tile(TileCall<T>& call, int64_t group, int64_t panel, int rows, T** out) const {
    const int64_t j = panel * kPanel<T>, n = std::min<int64_t>(kPanel<T>, v_.group_out - j);
    const bool direct = n % kLanes<T> == 0;
    call.b = packed_ + (group * panels_ + panel) * v_.k() * kPanel<T>;
    call.out = direct ? out : nullptr;
    call.bias = bias_ ? bias_ + group * v_.group_out + j : nullptr;
    for (int i = 0; i < rows; i++) __builtin_prefetch(out[i], 1);  // the tile takes longer than they do to arrive
    tile_function<T>(TileForm::rows, rows, int(divide_up(n, kLanes<T>)))(call);
    for (int i = 0; i < rows; i++) {
      if (!direct) put_row(call.stack + i * kPanel<T>, n, call.bias, accumulate_, out[i]);
      out[i] += n;
    }
  }

  void run_depthwise(const Work& work, Walk at, int64_t pixels) const {
    TileCall<T> call = call_of(work);
    for (int64_t i = 0; i < pixels; i++, at.next())
      for (int64_t j = 0; j < v_.groups; j += kLaneTile<T>) {
        T* out = out_ + at.out + j;
        call.a = source_ + at.source + j;
        call.b = packed_ + j;
        call.out = &out;
        call.bias = bias_ ? bias_ + j : nullptr;
        lane_tile(call, int(std::min<int64_t>(kLaneTile<T>, v_.groups - j)));
      }
  }

  const TapConv v_;
  const T *source_, *weight_, *bias_;
  T* out_;
  bool accumulate_, depthwise_;
  int64_t panels_, b_step_, bands_, images_;
  T* packed_ = nullptr;
};

}  // namespace

template <class T>
void conv_taps(const Exec& exec, const TapConv& v, const T* source, const T* weight, const T* bias, T* out,
               bool accumulate) {
  if (v.n == 0 || v.rows == 0 || v.cols == 0 || v.group_out == 0) return;
  TapRun<T> run(v, source, weight, bias, out, accumulate);
  const double outputs = double(v.n * v.rows * v.cols) * double(v.groups * v.group_out);
  const double ns = conv_ns(2 * outputs * double(v.k() + 1), sizeof(T) == 8);
  run.prepare(exec.scratch<T>(0, Slot::shared_pack, run.weight_count()));
  exec.parallel(run.pack_items(), ns, [&](int64_t item, int) { run.pack(item); });
  exec.parallel(run.units(), ns, [&](int64_t unit, int worker) {
    run.run(unit, exec.scratch<std::byte>(worker, Slot::a_pack, run.order_bytes()),
            exec.scratch<T>(worker, Slot::tile, run.stack_count()));
  });
}
template void conv_taps(const Exec&, const TapConv&, const float*, const float*, const float*, float*, bool);
template void conv_taps(const Exec&, const TapConv&, const double*, const double*, const double*, double*, bool);

double conv_ns(double flops, bool is_double) { return flops / (is_double ? 1.0 : 2.0) / (kVectorBytes / 4 * 2.5); }

}  // namespace thalweg
