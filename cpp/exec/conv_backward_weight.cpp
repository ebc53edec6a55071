// conv_backward_weight.cpp: d_w from x and d_y. For a kernel row r, the (kw, in) neighbours of a pixel are contiguous
// in x, so d_w(out, r, ...) is a product of two matrices with one row a pixel; both are read where they lie. K is
// pixels. A task is a range of tiles of d_w over a run of images. Images pass in groups that stay in L2; every tile
// keeps the stack of its tree from group to group. When d_w has few tiles, images are split into runs (aligned subtrees
// of a shard) with partial results of their own, which fold in the same tree at the end.
// Depthwise, a tile is a block of taps for a panel of channels (tile_depthwise.h); x is copied panel by panel, of large
// images a band of rows at a time.
#include "../tensor/arena.h"
#include "conv.h"
#include "conv_taps.h"
#include "halo.h"
#include "matmul.h"
#include "tile.h"
#include "tile_depthwise.h"

namespace thalweg {
namespace {

constexpr int64_t kGroupBytes = 256 << 10;  // of x and d_y at a time
constexpr int64_t kBandBytes = 400 << 10;   // the same, of one depthwise image: the fewer bands, the less comes twice
constexpr int64_t kNearBytes = 40 << 10;    // of these that all low tiles pass first: L1
constexpr int64_t kLowTile = 2 * kTileRows / 3;
constexpr int64_t kFewTiles = 256;  // below, images are split
constexpr int64_t kAheadPixels = 32;
constexpr int64_t kTasks = 4;                       // a thread, at least
constexpr int64_t kRangeTiles = 384;                // whose stacks lie about in L2
constexpr int kMostLines = 10;                      // memory delivers no more of them in the time of a depthwise step
constexpr int64_t kWholeImages = int64_t(1) << 40;  // chains of a band

template <class T>
class WeightRun {
 public:
  WeightRun(const Conv& v, const Shards& shards, int threads, const T* x, const T* d_y, T* d_w, bool accumulate)
      : v_(v), shards_(shards), x_(x), d_y_(d_y), d_w_(d_w), accumulate_(accumulate) {
    p_ = v.out_h(), q_ = v.out_w();
    depthwise_ = v.group_in() == 1 && v.group_out() == 1 && v.groups > 1;
    whole_rows_ = v.dilation_w == 1 && v.groups == 1;
    run_ = (whole_rows_ ? v.kw : 1) * v.group_in();
    lanes_out_ = !depthwise_ && v.group_out() % kLanes<T> == 0 &&
                 tile_cost(run_, v.group_out()) < tile_cost(v.group_out(), run_);
    rows_ = lanes_out_ ? run_ : v.group_out();
    columns_ = lanes_out_ ? v.group_out() : run_;
    if (depthwise_) rows_ = v.kh * v.kw, columns_ = v.groups;
    wide_tiles_ = divide_up(v.kw, kDepthSide);
    row_tiles_ = depthwise_ ? divide_up(v.kh, kDepthSide) * wide_tiles_ : divide_up(rows_, kTileRows);
    panel_ = depthwise_ ? kDepthPanel<T> : kPanel<T>;
    slot_ = depthwise_ ? kDepthSize<T> : kTileSize<T>;
    panels_ = divide_up(columns_, panel_);
    blocks_ = depthwise_ ? 1 : v.groups * v.kh * (whole_rows_ ? 1 : v.kw);
    const int64_t rows = window_rows(p_), cols = (q_ - 1) * v.stride_w + (v.kw - 1) * v.dilation_w + 1;
    const int64_t panel = depthwise_ ? panel_ : v.c;
    window_ = {v.h, v.w, v.c, -v.pad_top, rows, -v.pad_left, cols, panel, rows * cols * panel, 0, v.c};
    // Whole vectors are read: at the end of x there must be something behind the last channels.
    const bool over = !depthwise_ && !lanes_out_ && columns_ % kLanes<T> != 0;
    copy_ = depthwise_ || over || v.pad_top > 0 || v.pad_left > 0 || rows > v.h + v.pad_top || cols > v.w + v.pad_left;
    if (!copy_) window_ = {v.h, v.w, v.c, 0, v.h, 0, v.w, v.c, v.h * v.w * v.c, 0, v.c};
    const int64_t image_bytes = (window_.count() + p_ * q_ * v.out) * int64_t(sizeof(T));
    group_ = std::clamp<int64_t>(kGroupBytes / std::max<int64_t>(1, image_bytes), 1, std::max<int64_t>(1, v.n));
    chains_per_image_ = std::max<int64_t>(1, divide_up(p_ * q_, kKBlock));
    // Low tiles are done with an operand sooner than L2 delivers the next one.
    const int64_t near = divide_up(rows_, row_tiles_) <= kLowTile ? kNearBytes : group_ * image_bytes;
    chunk_ =
        std::max<int64_t>(1, std::min(near, 2 * kGroupBytes) * chains_per_image_ / std::max<int64_t>(1, image_bytes));
    if (depthwise_ && image_bytes > kBandBytes) cut_bands(image_bytes);
    cut_tasks(threads);
  }

  int64_t memory_bytes() const {
    return segment_bytes() + chain_bytes() + run_bytes() + image_bytes() +
           (split_ ? max_runs() * tiles() * slot_ * int64_t(sizeof(T)) : 0);
  }
  void prepare(std::byte* memory) {
    auto* segment = reinterpret_cast<KSegment*>(memory);
    auto* chain = reinterpret_cast<Chain*>(memory += segment_bytes());
    part_ = reinterpret_cast<Run*>(memory += chain_bytes());
    image_chain_ = reinterpret_cast<int64_t*>(memory += run_bytes());
    partial_ = reinterpret_cast<T*>(memory += image_bytes());
    const int64_t x_step = v_.stride_w * window_.panel, y_step = v_.out;
    SumOrderWriter w(segment, chain, lanes_out_ || depthwise_ ? x_step : y_step,
                     lanes_out_ || depthwise_ ? y_step : x_step, kKBlock);
    if (split_) write_split(w);
    else write_whole(w);
    order_ = w.order();
  }

  int64_t tiles() const { return blocks_ * row_tiles_ * panels_; }
  int64_t tasks() const { return runs_ * ranges_; }
  int64_t stack_count() const { return order_.slots * slot_ * divide_up(tiles(), ranges_); }
  int64_t halo_count() const { return copy_ ? group_ * window_.count() + kPanel<T> : 0; }
  bool split() const { return split_; }

  void run(int64_t task, T* halo, T* stack) const {
    const Run& part = part_[task / ranges_];
    const int64_t range = task % ranges_, begin = range * tiles() / ranges_, end = (range + 1) * tiles() / ranges_;
    int64_t chain = part.chain;
    for (int64_t i = part.first; i < part.last || chain < part.last_chain; i += group_) {
      const int64_t next = std::min(part.last, i + group_);
      const int64_t last = next < part.last ? image_chain_[next] : part.last_chain;
      for (int64_t band_end; chain < last; chain = band_end) {
        band_end = std::min(last, chain + band_);
        const Band band = band_at(i, next, chain, band_end);
        const T* const x = copy_ ? copy_band(band, i, begin, end, halo) : x_;
        Ahead ahead = ahead_of_tiles(band, next, part.last, end - begin);
        for (int64_t first = chain; first < band_end; first += chunk_)
          for (int64_t t = begin; t < end; t++)
            run_tile(t, first, std::min(band_end, first + chunk_), x, stack + (t - begin) * order_.slots * slot_,
                     ahead);
      }
    }
    for (int64_t t = begin; t < end; t++) {
      const T* sum = stack + (t - begin) * order_.slots * slot_;
      if (split_) std::copy_n(sum, slot_, partial(&part - part_, t));
      else put(t, sum);
    }
  }
  // Partial results of one tile fold, runs within shards, then shards, and go to d_w.
  void merge(int64_t t, T* stack) const {
    int64_t run = 0;
    auto add = [&](int into, int from) {
      for (int64_t i = 0; i < slot_; i++) stack[into * slot_ + i] += stack[from * slot_ + i];
    };
    fold_tree(
        shards_.count(),
        [&](int64_t s, int level) {
          const int64_t end = shard_runs(s) + run;
          fold_tree(
              end - run,
              [&](int64_t, int inner) { std::copy_n(partial(run++, t), slot_, stack + (level + inner) * slot_); },
              [&](int into, int from) { add(level + into, level + from); });
        },
        add);
    put(t, stack);
  }
  int64_t merge_count() const { return (tree_slots(shards_.count()) + tree_slots(v_.n)) * slot_; }

 private:
  struct Run {  // images [first, last), chains [chain, last_chain)
    int64_t first, last, chain, last_chain;
  };
  struct TileAt {  // offsets of a tile's operands, and its place in d_w
    int64_t x, d_y, d_w, row_step, column_step;
    int rows, columns, groups = 1;  // groups of rows: kernel rows of a depthwise tile
  };

  // Cycles a pixel, about.
  static int64_t tile_cost(int64_t rows, int64_t columns) {
    const int64_t tiles = divide_up(rows, kTileRows), height = divide_up(rows, tiles);
    const int64_t full = columns / kPanel<T>, rest = divide_up(columns % kPanel<T>, kLanes<T>);
    auto cost = [&](int64_t vectors) { return std::max<int64_t>(8, height * vectors) + 2; };
    return tiles * (full * cost(kTileVectors) + (rest ? cost(rest) : 0));
  }

  int64_t window_rows(int64_t rows) const { return (rows - 1) * v_.stride_h + (v_.kh - 1) * v_.dilation_h + 1; }
  // Depthwise, large images: some chains of an image at a time, with the rows of x that they need.
  void cut_bands(int64_t image_bytes) {
    band_ = std::max<int64_t>(1, chains_per_image_ * kBandBytes / image_bytes);
    window_.rows = window_rows(std::min(p_, divide_up(band_ * kKBlock - 1, q_) + 1));
    window_.panel_step = window_.rows * window_.cols * window_.panel;
  }
  struct Band {  // rows of outputs of images that pass together
    int64_t begin, end, images;
    int64_t rows() const { return images * (end - begin); }
  };
  Band band_at(int64_t image, int64_t next, int64_t chain, int64_t last) const {
    if (band_ == kWholeImages || image == next) return {0, p_, next - image};
    auto pixel = [&](int64_t c) {  // empty shards have chains before and behind those of the image
      return std::min(p_ * q_, std::clamp<int64_t>(c - image_chain_[image], 0, chains_per_image_) * kKBlock);
    };
    const int64_t begin = pixel(chain) / q_, end = divide_up(pixel(last), q_);
    return {begin, end, pixel(chain) < pixel(last)};
  }
  // The band's x goes to `halo`, for tiles [begin, end). What the tiles read with it, and the processor does not
  // foresee, comes in meanwhile. Returns where the first image's x would begin.
  const T* copy_band(const Band& band, int64_t image, int64_t begin, int64_t end, T* halo) const {
    Window w = window_;
    w.row0 += band.begin * v_.stride_h;
    if (band_ != kWholeImages) w.rows = window_rows(band.end - band.begin);
    if (depthwise_) w.first = begin / row_tiles_ * panel_, w.last = std::min(v_.c, divide_up(end, row_tiles_) * panel_);
    Ahead ahead{};
    if (depthwise_ && ranges_ == 1)
      ahead = Ahead::of(d_y_ + (image * p_ + band.begin) * q_ * v_.out, band.rows() * q_ * v_.out,
                        panels_ * v_.w * w.rows * band.images);
    for (int64_t i = image; i < image + band.images; i++)
      copy_window(w, x_ + i * v_.h * v_.w * v_.c, halo + (i - image) * w.count(), ahead);
    return halo - band.begin * v_.stride_h * w.cols * w.panel;
  }

  // A step is a segment of a tile. Depthwise: kDepthSide pixels, x of the next band. Otherwise d_y of the next images,
  // as its first tile will read a few channels of every pixel, which the processor does not foresee.
  Ahead ahead_of_tiles(const Band& band, int64_t next, int64_t last, int64_t tiles) const {
    if (ranges_ > 1) return {};
    const int64_t images = std::min(last, next + group_) - next;
    if (!depthwise_) return Ahead::of(d_y_ + next * p_ * q_ * v_.out, images * p_ * q_ * v_.out, tiles * band.rows());
    const int64_t row = v_.w * v_.c, from = band_ == kWholeImages
                                                ? next * v_.h
                                                : (next - 1) * v_.h + std::min(v_.h, band.end * v_.stride_h);
    const int64_t rows = band_ == kWholeImages ? images * v_.h : (band.end - band.begin) * v_.stride_h;
    Ahead ahead = Ahead::of(x_ + from * row, std::min(rows, last * v_.h - from) * row,
                            tiles * band.rows() * divide_up(q_, kDepthSide));
    ahead.lines = std::min(ahead.lines, kMostLines);
    return ahead;
  }

  int64_t shard_images(int64_t s) const { return shards_.offset[s + 1] - shards_.offset[s]; }
  int64_t shard_runs(int64_t s) const { return std::max<int64_t>(1, divide_up(shard_images(s), run_images_)); }
  int64_t max_runs() const { return split_ ? runs_ : 1; }
  int64_t segment_bytes() const { return align_up((v_.n * (p_ + chains_per_image_) + 1) * int64_t(sizeof(KSegment))); }
  int64_t chain_bytes() const {
    return align_up((v_.n * chains_per_image_ + shards_.count()) * int64_t(sizeof(Chain)));
  }
  int64_t run_bytes() const { return align_up(max_runs() * int64_t(sizeof(Run))); }
  int64_t image_bytes() const { return align_up((v_.n + 1) * int64_t(sizeof(int64_t))); }
  T* partial(int64_t run, int64_t tile) const { return partial_ + (run * tiles() + tile) * slot_; }

  void cut_tasks(int threads) {
    split_ = tiles() < kFewTiles && v_.n > 1;
    runs_ = 1;
    if (split_) {
      while (v_.n / (2 * run_images_) >= kTasks * threads) run_images_ *= 2;
      runs_ = 0;
      for (int s = 0; s < shards_.count(); s++) runs_ += shard_runs(s);
    }
    ranges_ = split_ ? 1 : std::min(tiles(), std::max(kTasks * threads, divide_up(tiles(), kRangeTiles)));
  }

  // One order: images fold in their shard, shards in the tree below.
  void write_whole(SumOrderWriter& w) {
    const int64_t shards = shards_.count();
    for (int64_t s = 0; s < shards; s++) {
      const int64_t images = shard_images(s);
      const int base = std::popcount(uint64_t(s));
      const int merges = s + 1 == shards ? base : std::countr_one(uint64_t(s));
      for (int64_t i = 0; i < images; i++)
        write_image(w, shards_.offset[s] + i, shards_.offset[s] + i, i, images, base, i + 1 == images ? merges : 0);
      if (images == 0) {
        w.begin_leaf(0, 1, base);
        w.also_merge(merges);
        w.end_leaf();
      }
    }
    part_[0] = {0, v_.n, 0, w.chains()};
  }
  // One order for each run of images.
  void write_split(SumOrderWriter& w) {
    Run* part = part_;
    for (int s = 0; s < shards_.count(); s++)
      for (int64_t r = 0; r < shard_runs(s); r++) {
        const int64_t first = shards_.offset[s] + r * run_images_;
        const int64_t last = std::min(shards_.offset[s + 1], first + run_images_), chain = w.chains();
        for (int64_t i = first; i < last; i++) write_image(w, i, i - first, i - first, last - first, 0, 0);
        if (first == last) w.begin_leaf(0, 1), w.end_leaf();
        *part++ = {first, last, chain, w.chains()};
      }
  }
  // Leaf i of `leaves` is an image; `place` counts images since the first group of the run.
  void write_image(SumOrderWriter& w, int64_t image, int64_t place, int64_t i, int64_t leaves, int base, int merges) {
    image_chain_[image] = w.chains();
    w.begin_leaf(i, leaves, base);
    w.also_merge(merges);
    const int64_t x = (copy_ ? place % group_ : image) * window_.count(), y = image * p_ * q_ * v_.out;
    const bool x_first = lanes_out_ || depthwise_;
    for (int64_t p = 0; p < p_; p++) {
      const int64_t at_x = x + p * v_.stride_h * window_.cols * window_.panel, at_y = y + p * q_ * v_.out;
      w.add(x_first ? at_x : at_y, x_first ? at_y : at_x, q_);
    }
    w.end_leaf();
  }

  int64_t tap_at(int64_t r, int64_t s) const {
    return (r * v_.dilation_h * window_.cols + s * v_.dilation_w) * window_.panel;
  }
  TileAt tile_at(int64_t t) const {
    if (depthwise_) return depthwise_tile_at(t / row_tiles_, t % row_tiles_);
    const int64_t panel = t % panels_, block = t / panels_ % blocks_, row = t / panels_ / blocks_;
    const int64_t j = panel * panel_, i = row * rows_ / row_tiles_, in = v_.group_in(), taps = v_.kh * v_.kw;
    const int rows = int((row + 1) * rows_ / row_tiles_ - i), columns = int(std::min<int64_t>(panel_, columns_ - j));
    const int64_t per_row = whole_rows_ ? 1 : v_.kw, group = block / (v_.kh * per_row);
    const int64_t r = block / per_row % v_.kh, s = block % per_row;
    const int64_t x = tap_at(r, s) + group * in;
    const int64_t y = group * v_.group_out(), w = y * taps * in + (r * v_.kw + s) * in;
    if (lanes_out_) return {x + i, y + j, w + i + j * taps * in, 1, taps * in, rows, columns};
    return {x + j, y + i, w + j + i * taps * in, taps * in, 1, rows, columns};
  }
  TileAt depthwise_tile_at(int64_t panel, int64_t tile) const {
    const int64_t high_tiles = row_tiles_ / wide_tiles_, high = tile / wide_tiles_, wide = tile % wide_tiles_;
    const int64_t r = high * v_.kh / high_tiles, s = wide * v_.kw / wide_tiles_, taps = v_.kh * v_.kw,
                  j = panel * panel_;
    return {.x = panel * window_.panel_step + tap_at(r, s),
            .d_y = j,
            .d_w = j * taps + r * v_.kw + s,
            .row_step = 1,
            .column_step = taps,
            .rows = int((wide + 1) * v_.kw / wide_tiles_ - s),
            .columns = int(std::min(panel_, columns_ - j)),
            .groups = int((high + 1) * v_.kh / high_tiles - r)};
  }
  void run_tile(int64_t t, int64_t first, int64_t last, const T* x_base, T* stack, Ahead& ahead) const {
    const TileAt at = tile_at(t);
    const T *x = x_base + at.x, *y = d_y_ + at.d_y;
    const int64_t x_step = v_.stride_w * window_.panel, y_step = v_.out;
    const auto *from = order_.chain + first, *to = order_.chain + last;
    if (depthwise_) return run_depthwise(at, x, y, {order_.segment, from, last - first}, stack, ahead);
    const TileCall<T> call{.a = lanes_out_ ? x : y,
                           .a_step = lanes_out_ ? x_step : y_step,
                           .b = lanes_out_ ? y : x,
                           .b_step = lanes_out_ ? y_step : x_step,
                           .a_ahead = kAheadPixels * (lanes_out_ ? x_step : y_step),
                           .segment = order_.segment,
                           .first = from,
                           .last = to,
                           .stack = stack,
                           .ahead = ahead.at,
                           .ahead_lines = ahead.lines};
    const TileForm form = v_.kh * v_.kw == 1 ? TileForm::columns_ahead : TileForm::columns;  // no other tap brings it
    for (const Chain* s = from; s != to; s++) ahead.at += s->segments * ahead.lines * kLineBytes;
    tile_function<T>(form, at.rows, int(divide_up(at.columns, kLanes<T>)))(call);
  }
  void run_depthwise(const TileAt& at, const T* x, const T* y, const SumOrder& order, T* stack, Ahead& ahead) const {
    const DepthwiseCall<T> call{.a = x,
                                .a_group = tap_at(1, 0),
                                .a_row = tap_at(0, 1),
                                .a_step = v_.stride_w * window_.panel,
                                .b = y,
                                .b_step = v_.out,
                                .order = order,
                                .stack = stack,
                                .channels = at.columns,
                                .ahead = ahead.at,
                                .ahead_lines = ahead.lines};
    ahead.at = depthwise_tile(call, at.groups, at.rows);
  }
  void put(int64_t t, const T* sum) const {
    const TileAt at = tile_at(t);
    for (int g = 0; g < at.groups; g++)
      for (int i = 0; i < at.rows; i++, sum += panel_)
        for (int j = 0; j < at.columns; j++) {
          T& to = d_w_[at.d_w + g * v_.kw + i * at.row_step + j * at.column_step];
          to = accumulate_ ? to + sum[j] : sum[j];
        }
  }

  const Conv v_;
  const Shards& shards_;
  const T *x_, *d_y_;
  T* d_w_;
  bool accumulate_, depthwise_, whole_rows_, lanes_out_, copy_, split_ = false;
  int64_t p_, q_, run_, rows_, columns_, row_tiles_, wide_tiles_, panel_, slot_, panels_, blocks_, group_, chunk_,
      chains_per_image_;
  int64_t run_images_ = 1, runs_ = 1, ranges_ = 1, band_ = kWholeImages;  // of chains
  Window window_;
  Run* part_ = nullptr;
  int64_t* image_chain_ = nullptr;
  T* partial_ = nullptr;
  SumOrder order_;
};

}  // namespace

template <class T>
void conv_backward_weight(const Exec& exec, const Conv& v, const Shards& shards, const T* x, const T* d_y, T* d_w,
                          bool accumulate) {
  if (v.out == 0 || v.c == 0) return;
  const double ns = conv_ns(v.flops(), sizeof(T) == 8);
  WeightRun<T> run(v, shards, exec.threads_for(ns), x, d_y, d_w, accumulate);
  run.prepare(exec.scratch<std::byte>(0, Slot::shared_pack, run.memory_bytes()));
  exec.parallel(run.tasks(), ns, [&](int64_t task, int worker) {
    run.run(task, exec.scratch<T>(worker, Slot::a_pack, run.halo_count()),
            exec.scratch<T>(worker, Slot::tile, run.stack_count()));
  });
  if (!run.split()) return;
  exec.parallel(run.tiles(), ns, [&](int64_t tile, int worker) {
    run.merge(tile, exec.scratch<T>(worker, Slot::tile, run.merge_count()));
  });
}
template void conv_backward_weight(const Exec&, const Conv&, const Shards&, const float*, const float*, float*, bool);
template void conv_backward_weight(const Exec&, const Conv&, const Shards&, const double*, const double*, double*,
                                   bool);

}  // namespace thalweg
