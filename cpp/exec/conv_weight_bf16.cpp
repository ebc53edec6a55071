// conv_weight_bf16.cpp: d_w from x and d_y. For a kernel row r, d_w(out, r, ...) is a product over pixels: tiles of A
// are kSide outputs of d_y, turned; tiles of B are kSide of the kw * in neighbours of a pixel. A task is a run of
// images (an aligned subtree of a shard), which pass in groups that stay in L2; the results of the runs fold in the
// same tree at the end.
#include <bit>

#include "../tensor/arena.h"
#include "conv_bf16.h"
#include "conv_taps_bf16.h"
#include "halo.h"
#include "image_bf16.h"
#include "stored.h"

namespace thalweg {
namespace {

constexpr int64_t kGroupBytes = 1 << 20;  // of packed images at a time
constexpr int64_t kRuns = 8;              // at least, where there are images for them

class WeightRun {
 public:
  WeightRun(const Conv& v, const Shards& shards, const NumbersBf16& x, const NumbersBf16& d_y, float* d_w)
      : v_(v),
        taps_(forward_taps(v)),
        shards_(shards),
        x_(x),
        d_y_(d_y),
        d_w_(d_w),
        image_(taps_, taps_.rows, own_runs(v)) {
    pixels_ = taps_.rows * taps_.cols;
    run_ = v.kw * v.group_in();
    groups_ = divide_up(pixels_, kGroup);
    rows_overlap_ = v.stride_h == 1 && pixels_ % kGroup == 0 && taps_.cols % pixels_of_unit() == 0;
    out_tiles_ = divide_up(v.group_out(), kSide), run_tiles_ = divide_up(run_, kSide);
    const int64_t a = groups_ * kOperandTile;
    const int64_t b = rows_overlap_ ? (taps_.rows + (v.kh - 1) * v.dilation_h) * taps_.cols * kSide : v.kh * a;
    a_stride_ = odd_tiles(a), b_stride_ = odd_tiles(b);
    depthwise_ = taps_.depthwise();
    while (v.n / (2 * run_images_) >= kRuns) run_images_ *= 2;
    for (int s = 0; s < shards.count(); s++) runs_ += shard_runs(s);
    const int64_t image_bytes = image_count() * int64_t(sizeof(Bf16));
    const int64_t fit = std::clamp<int64_t>(kGroupBytes / std::max<int64_t>(1, image_bytes), 1, run_images_);
    together_ = int64_t(std::bit_floor(uint64_t(fit)));
    most_leaves_ = depthwise_ || groups_ > kLeafGroupsBf16 ? 1 : std::min(kMostLeavesBf16, together_);
    slots_ = tree_slots(run_images_);
  }

  int64_t memory_bytes() const { return table_bytes() + runs_ * blocks() * kBlockSums * int64_t(sizeof(float)); }
  void prepare(std::byte* memory) {
    partial_ = reinterpret_cast<float*>(memory + table_bytes());
    if (depthwise_) return prepare_lanes(reinterpret_cast<int64_t*>(memory));
    group_ = reinterpret_cast<GroupBf16*>(memory);
    const int64_t step = image_count() / kOperandTile;
    for (int64_t i = 0; i < most_leaves_; i++) {
      image_groups_[i] = {i * step, i * step + groups_};
      for (int64_t g = 0; g < groups_; g++)
        group_[i * step + g] = {(i * step + g) * kOperandTile, std::min(kGroup, pixels_ - g * kGroup)};
    }
  }

  int64_t blocks() const {
    return depthwise_ ? divide_up(v_.groups, kSide) * divide_up(taps_.taps(), kBlockTaps)
                      : v_.groups * blocks_out() * blocks_in();
  }
  int64_t tasks() const { return runs_; }
  int64_t window_count() const { return std::max(image_.count(), taps_.out_image); }
  int64_t packed_count() const { return together_ * image_count(); }
  int64_t sum_count() const { return (stacks() * slots_ + 1) * kBlockSums; }
  void run(int64_t task, Bf16* window, Bf16* packed, float* sums) const {
    int64_t first = 0, count = 0;
    images_of(task, &first, &count);
    if (count == 0) return std::fill_n(partial(task, 0), blocks() * kBlockSums, 0.0f), void();
    const TileScope scope;
    float* sum = sums + stacks() * slots_ * kBlockSums;
    for (int64_t i = 0; i < count; i += together_) {
      const int64_t end = std::min(count, i + together_);
      for (int64_t at = i; at < end; at++) pack(first + at, window, packed + (at - i) * image_count());
      const int64_t next = std::min(count, end + together_) - end;
      Ahead next_x = ahead(x_, first + end, next, v_.h * v_.w * v_.c),
            next_y = ahead(d_y_, first + end, next, taps_.out_image);
      for (int64_t block = 0; block < blocks(); block++) {
        next_x.ask(), next_y.ask();
        float* stack = sums + (stacks() > 1 ? block * slots_ * kBlockSums : 0);
        for (int64_t at = i, some; at < end; at += some) {
          some = leaves_at(at, end);
          run_images(block, packed + (at - i) * image_count(), at, some, count, stack, sum);
        }
        if (end == count) std::copy_n(stack, kBlockSums, partial(task, block));
      }
    }
  }

  // Partial results of a block fold, runs within shards, then shards, and go to d_w.
  int64_t merge_count() const { return (tree_slots(shards_.count()) + tree_slots(runs_)) * kBlockSums; }
  void merge(int64_t block, float* stack) const {
    int64_t run = 0;
    auto add = [&](int into, int from) {
      for (int64_t i = 0; i < kBlockSums; i++) stack[into * kBlockSums + i] += stack[from * kBlockSums + i];
    };
    fold_tree(
        shards_.count(),
        [&](int64_t s, int level) {
          fold_tree(
              shard_runs(s),
              [&](int64_t, int inner) {
                std::copy_n(partial(run++, block), kBlockSums, stack + (level + inner) * kBlockSums);
              },
              [&](int into, int from) { add(level + into, level + from); });
        },
        add);
    put(block, stack);
  }

 private:
  // Pairs of pixels are made where they lie: in the image, whose rows are then whole pairs (or quads), or run by run.
  static int64_t pixels_of_unit() { return turns_quads() ? 4 : 2; }
  static bool own_runs(const Conv& v) {
    const TapConv taps = forward_taps(v);
    return !taps.depthwise() && (taps.cols % pixels_of_unit() != 0 || !ImageBf16::runs_overlap(taps));
  }
  static int64_t odd_tiles(int64_t count) { return (divide_up(count, kOperandTile) | 1) * kOperandTile; }
  int64_t image_count() const {
    if (!depthwise_) return operand_count();
    return (d_y_count() + image_.count()) * int64_t(sizeof(float) / sizeof(Bf16));
  }
  int64_t operand_count() const { return v_.groups * (out_tiles_ * a_stride_ + run_tiles_ * b_stride_); }
  int64_t columns() const { return v_.kh * run_tiles_; }  // tiles of them: those of every kernel row
  int64_t blocks_out() const { return divide_up(out_tiles_, kBlockSide); }
  int64_t blocks_in() const { return divide_up(columns(), kBlockSide); }
  int64_t stacks() const { return together_ < run_images_ ? blocks() : 1; }
  float* partial(int64_t run, int64_t block) const { return partial_ + (run * blocks() + block) * kBlockSums; }

  // What blocks ask for while the next `count` images, each of `size` numbers, are yet to come. A step is a block.
  Ahead ahead(const NumbersBf16& images, int64_t image, int64_t count, int64_t size) const {
    const NumbersBf16 from = images.from(image * size), to = from.from(count * size);
    const auto* at = static_cast<const std::byte*>(from.p);
    return Ahead::of(at, static_cast<const std::byte*>(to.p) - at, blocks());
  }
  // Images from this one on that are a subtree and fold at once.
  int64_t leaves_at(int64_t image, int64_t end) const {
    int64_t n = most_leaves_;
    while (n > 1 && (image % n != 0 || image + n > end)) n /= 2;
    return n;
  }
  // Images [at, at + some) of the `count` of a run: leaves of its tree.
  void run_images(int64_t block, const Bf16* packed, int64_t at, int64_t some, int64_t count, float* stack,
                  float* sum) const {
    LeafBf16 leaf = leaf_at(at + some - 1, count);
    leaf.adds -= std::countr_zero(uint64_t(some));
    if (some > 1 &&
        run_folded(block_of(block, packed, leaf_sum(leaf, stack, sum)), rows_of(block), image_groups_, some))
      return fold_leaf(leaf, stack, sum);
    for (int64_t i = 0; i < some; i++) {
      leaf = leaf_at(at + i, count);
      run_image(block, packed + i * image_count(), leaf_sum(leaf, stack, sum));
      fold_leaf(leaf, stack, sum);
    }
  }

  int64_t shard_images(int64_t s) const { return shards_.offset[s + 1] - shards_.offset[s]; }
  int64_t shard_runs(int64_t s) const { return std::max<int64_t>(1, divide_up(shard_images(s), run_images_)); }
  void images_of(int64_t run, int64_t* first, int64_t* count) const {
    int64_t s = 0;
    for (; run >= shard_runs(s); s++) run -= shard_runs(s);
    *first = shards_.offset[s] + run * run_images_;
    *count = std::min(shards_.offset[s + 1] - *first, run_images_);
  }

  // Depthwise: for every pixel where it is in the window; a block is kBlockTaps taps of kSide channels.
  static constexpr int64_t kBlockTaps = kBlockSums / kSide;
  int64_t table_bytes() const {
    if (depthwise_) return align_up((pixels_ + groups_ + 1) * int64_t(sizeof(int64_t)));
    return align_up(((most_leaves_ - 1) * (image_count() / kOperandTile) + groups_) * int64_t(sizeof(GroupBf16)));
  }
  int64_t d_y_count() const { return divide_up(pixels_ * v_.out + kSide, kGroup) * kGroup; }
  void prepare_lanes(int64_t* memory) {
    offset_ = memory;
    for (int64_t k = 0; k < pixels_; k++)
      offset_[k] = k / taps_.cols * image_.row_step() + k % taps_.cols * image_.pixel_step();
    for (int64_t g = 0; g <= groups_; g++) offset_[pixels_ + g] = std::min(pixels_, g * kGroup);
  }
  void run_lanes_image(int64_t block, const Bf16* packed, float* sum) const {
    const int64_t chunks = divide_up(v_.groups, kSide), j = block % chunks * kSide, first = block / chunks * kBlockTaps;
    const int64_t last = std::min(taps_.taps(), first + kBlockTaps);
    const float *d_y = reinterpret_cast<const float*>(packed), *x = d_y + d_y_count();
    std::fill_n(sum, kBlockSums, 0.0f);
    for (int64_t tap = first, some; tap < last; tap += some, sum += some * kSide) {  // of one kernel row
      some = std::min(v_.kw - tap % v_.kw, last - tap);
      run_lanes({.a = x + image_.tap(tap / v_.kw) + tap % v_.kw * v_.dilation_w * v_.c + j,
                 .a_next = v_.dilation_w * v_.c,
                 .a_at = offset_,
                 .b = d_y + j,
                 .b_step = v_.out,
                 .start = offset_ + pixels_,
                 .groups = groups_,
                 .count = some,
                 .sum = sum});
    }
  }
  void put_lanes(int64_t block, const float* sum) const {
    const int64_t chunks = divide_up(v_.groups, kSide), j = block % chunks * kSide, first = block / chunks * kBlockTaps;
    const int64_t taps = taps_.taps(), last = std::min(taps, first + kBlockTaps);
    for (int64_t tap = first; tap < last; tap++, sum += kSide)
      for (int64_t g = j; g < std::min(v_.groups, j + kSide); g++) d_w_[g * taps + tap] = sum[g - j];
  }

  // Both operands of one image: for every group of channels, tiles of A, then tiles of B.
  void pack(int64_t image, Bf16* window, Bf16* to) const {
    const NumbersBf16 x = x_.from(image * v_.h * v_.w * v_.c);
    if (depthwise_) {
      float* const numbers = reinterpret_cast<float*>(to);
      copy_bf16(d_y_.from(image * taps_.out_image), taps_.out_image, window);
      load_stored(window, taps_.out_image, numbers);
      image_.build(x, 0, 0, window);
      return load_stored(window, image_.count(), numbers + d_y_count());
    }
    for (int64_t g = 0; g < v_.groups; g++) {
      const OperandBf16 d_y{d_y_.from(image * taps_.out_image + g * v_.group_out()), v_.out, 1};
      for (int64_t t = 0; t < out_tiles_; t++, to += a_stride_)
        pack_bf16(d_y, 0, pixels_, t * kSide, side(t, v_.group_out()), PackForm::rows, to);
      if (g == 0 || own_runs(v_)) image_.build(x, 0, g, window);
      for (int64_t t = 0; t < run_tiles_; t++, to += b_stride_) pack_runs(window + t * kSide, side(t, run_), to);
    }
  }
  void pack_runs(const Bf16* from, int n, Bf16* to) const {
    const int64_t step = image_.pixel_step(), cols = taps_.cols, line = cols * kSide;
    if (rows_overlap_) {
      for (int64_t i = 0; i < taps_.rows + (v_.kh - 1) * v_.dilation_h; i++)
        pair_row(from + i * image_.row_step(), n, to + i * line);
      return;
    }
    for (int64_t r = 0; r < v_.kh; r++, to += groups_ * kOperandTile) {
      const Bf16* row = from + image_.tap(r);
      if (own_runs(v_)) {
        pack_bf16({row, step, 1}, 0, pixels_, 0, n, PackForm::pairs, to);
        continue;
      }
      for (int64_t p = 0; p < taps_.rows; p++) pair_row(row + p * image_.row_step(), n, to + p * line);
      std::memset(to + taps_.rows * line, 0, (groups_ * kOperandTile - taps_.rows * line) * sizeof(Bf16));
    }
  }
  void pair_row(const Bf16* from, int n, Bf16* to) const {
    pair_bf16(from, image_.pixel_step(), taps_.cols / 2, n, to);
  }
  static int side(int64_t tile, int64_t all) { return int(std::min<int64_t>(kSide, all - tile * kSide)); }

  // A column tile (kernel row, tile of the run) in an image's tiles of B.
  int64_t column_at(int64_t column) const {
    const int64_t r = column / run_tiles_;
    return column % run_tiles_ * b_stride_ +
           r * (rows_overlap_ ? v_.dilation_h * taps_.cols * kSide : groups_ * kOperandTile);
  }
  void run_image(int64_t block, const Bf16* packed, float* sum) const {
    if (depthwise_) return run_lanes_image(block, packed, sum);
    run_block(block_of(block, packed, sum));
  }
  int rows_of(int64_t block) const {
    const int64_t out = block / blocks_in() % blocks_out() * kBlock;
    return int(std::min<int64_t>(kBlock, v_.group_out() - out));
  }
  BlockBf16 block_of(int64_t block, const Bf16* packed, float* sum) const {
    const int64_t in = block % blocks_in() * kBlockSide, out = block / blocks_in() % blocks_out() * kBlockSide;
    const Bf16* a = packed + block / blocks_in() / blocks_out() * (operand_count() / v_.groups);
    const Bf16* b = a + out_tiles_ * a_stride_;
    const int wide = int(std::min<int64_t>(kBlockSide, columns() - in));
    return {.a = {a + out * a_stride_, a + (out + 1) * a_stride_},
            .a_step = kGroup,
            .half = {kHalfSide * kGroup, kHalfSide * kGroup},
            .b = {b + column_at(in), wide > 1 ? b + column_at(in + 1) : nullptr},
            .group = group_,
            .groups = groups_,
            .tall = int(std::min<int64_t>(kBlockSide, out_tiles_ - out)),
            .wide = wide,
            .sum = sum,
            .fresh = true};
  }
  void put(int64_t block, const float* sum) const {
    if (depthwise_) return put_lanes(block, sum);
    const int64_t in = block % blocks_in() * kBlockSide, out = block / blocks_in() % blocks_out() * kBlockSide;
    const int64_t group = block / blocks_in() / blocks_out(), step = v_.kh * run_;
    for (int64_t t = out; t < std::min(out_tiles_, out + kBlockSide); t++)
      for (int64_t u = in; u < std::min(columns(), in + kBlockSide); u++)
        put_tile(sum + (kBlockSide * (t - out) + u - in) * kSumTile, side(t, v_.group_out()),
                 side(u % run_tiles_, run_), nullptr, false,
                 d_w_ + (group * v_.group_out() + t * kSide) * step + u / run_tiles_ * run_ + u % run_tiles_ * kSide,
                 step);
  }

  const Conv v_;
  const TapConv taps_;
  const Shards& shards_;
  const NumbersBf16 x_, d_y_;
  float* d_w_;
  const ImageBf16 image_;
  int64_t pixels_, run_, groups_, out_tiles_, run_tiles_, a_stride_, b_stride_, together_;
  int64_t run_images_ = 1, runs_ = 0, most_leaves_ = 1;
  int slots_;
  bool rows_overlap_, depthwise_;
  int64_t* offset_ = nullptr;  // depthwise
  GroupBf16* group_ = nullptr;
  GroupRange image_groups_[kMostLeavesBf16] = {};
  float* partial_ = nullptr;
};

}  // namespace

template <class X>
void conv_backward_weight_bf16(const Exec& exec, const Conv& v, const Shards& shards, const X* x, const X* d_y,
                               float* d_w) {
  if (v.out == 0 || v.c == 0) return;
  WeightRun run(v, shards, x, d_y, d_w);
  const double ns = conv_ns_bf16(forward_taps(v));
  run.prepare(exec.scratch<std::byte>(0, Slot::shared_pack, run.memory_bytes()));
  exec.parallel(run.tasks(), ns, [&](int64_t task, int worker) {
    run.run(task, exec.scratch<Bf16>(worker, Slot::a_pack, run.window_count()),
            exec.scratch<Bf16>(worker, Slot::b_pack, run.packed_count()),
            exec.scratch<float>(worker, Slot::tile, run.sum_count()));
  });
  exec.parallel(run.blocks(), ns, [&](int64_t block, int worker) {
    run.merge(block, exec.scratch<float>(worker, Slot::tile, run.merge_count()));
  });
}
template void conv_backward_weight_bf16(const Exec&, const Conv&, const Shards&, const float*, const float*, float*);
template void conv_backward_weight_bf16(const Exec&, const Conv&, const Shards&, const Bf16*, const Bf16*, float*);

}  // namespace thalweg
