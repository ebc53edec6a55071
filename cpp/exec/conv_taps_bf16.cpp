// conv_taps_bf16.cpp: pixels are the rows of the tiles; a block is kBlock pixels times kBlock outputs. Where rows of
// outputs are whole tiles (or halves, where those may part) pixels follow each other without gaps, else on the grid of
// the window (image_bf16.h). A unit is an image, or a band of its rows. Tap rows in the padding are left out where that
// shows in no bit. Depthwise, each channel is a product of its own, on floats.
#include "conv_taps_bf16.h"

#include "../tensor/arena.h"
#include "conv_regions.h"
#include "image_bf16.h"
#include "stored.h"

namespace thalweg {
namespace {

constexpr int64_t kUnitCount = 128 << 10;  // numbers of a window
constexpr int64_t kMinUnits = 16;          // enough for an even share on a few threads
constexpr int64_t kChunk = 18;             // groups whose weights stay in L1 while the pixels pass
constexpr int64_t kSkipGroups = 9;         // at least, where looking for zeros pays

class TapRun {
 public:
  TapRun(const TapConv& v, const NumbersBf16& source, const float* weight, const float* bias, const OutBf16& out,
         const Follow& follow)
      : v_(v), source_(source), weight_(weight), bias_(bias), out_(out), follow_(follow) {
    run_ = v.tap_w.count * v.group_in;
    run_groups_ = divide_up(run_, kGroup);
    groups_ = v.tap_h.count * run_groups_;
    stride_ = (groups_ | 1) * kOperandTile;
    tiles_ = divide_up(v.group_out, kSide);
    depthwise_ = v.depthwise();
    own_runs_ = !depthwise_ && !ImageBf16::runs_are_operands(v);
    int64_t rows = v.rows;
    while (rows > 1 && ImageBf16(v, rows, own_runs_).count() > kUnitCount) rows = divide_up(rows, 2);
    bands_ = std::max(divide_up(v.rows, rows), std::min(v.rows, divide_up(kMinUnits, v.n)));
    images_ = bands_ > 1 ? 1 : std::max<int64_t>(1, v.n / (2 * kMinUnits));
  }

  int64_t memory_bytes() const {
    if (depthwise_) return lane_tables() * int64_t(sizeof(int64_t)) + v_.taps() * lanes() * int64_t(sizeof(float));
    return table_bytes() + v_.groups * tiles_ * stride_ * int64_t(sizeof(Bf16)) +
           (copied() ? run_ * kSide * int64_t(sizeof(float)) : 0);
  }
  void prepare(std::byte* memory) {
    const ImageBf16 image(v_, band_rows(), own_runs_);
    if (depthwise_) return prepare_lanes(image, reinterpret_cast<int64_t*>(memory));
    group_ = reinterpret_cast<GroupBf16*>(memory);
    for (int64_t g = 0; g < groups_; g++) {
      const int64_t k = g % run_groups_ * kGroup;
      group_[g] = {image.tap(g / run_groups_) + k, std::min(kGroup, run_ - k)};
    }
    packed_ = reinterpret_cast<Bf16*>(memory + table_bytes());
    pack_weights(reinterpret_cast<float*>(packed_ + v_.groups * tiles_ * stride_));
    skips_ = skips_groups() && groups_ >= kSkipGroups && pads_rows();
    for (int64_t tile = 0; skips_ && tile < v_.groups * tiles_; tile++)
      skips_ = finite(packed_ + tile * stride_, groups_ * kOperandTile);
  }

  int64_t units() const { return divide_up(v_.n, images_) * bands_; }
  int64_t sum_count() const {
    return depthwise_ ? image_count() + v_.cols * kSide
                      : kBlockSums * (groups_ > kChunk ? divide_up(most_pixels(), kBlock) : 1);
  }
  int64_t image_count() const { return ImageBf16(v_, band_rows(), own_runs_).count(); }
  void run(int64_t unit, Bf16* window, float* sums) const {
    const int64_t first = unit / bands_ * images_, band = unit % bands_;
    const int64_t begin = band * v_.rows / bands_, end = (band + 1) * v_.rows / bands_;
    const ImageBf16 layout(v_, band_rows(), own_runs_);
    const TileScope scope;
    for (int64_t image = first; image < std::min(v_.n, first + images_); image++) {
      const NumbersBf16 source = source_.from(image * v_.in_h * v_.in_w * v_.in_c);
      const Work work{layout, begin, end - begin, image * v_.out_image + begin * v_.out_row, window, sums};
      for (int64_t g = 0; g < (depthwise_ ? 1 : v_.groups); g++) {
        if (groups_ > 0) layout.build(source, begin, g, window, !depthwise_);
        if (depthwise_) run_depthwise(work);
        else
          for (int64_t tile = 0; tile < tiles_; tile += kBlockSide) run_columns(work, g, tile);
      }
      if (follow_) follow_({work.out, 0, 1, work.rows * v_.out_row});
    }
  }

 private:
  struct Work {
    const ImageBf16& image;
    int64_t first, rows, out;  // rows of outputs, and where they begin
    Bf16* window;
    float* sums;
  };
  int64_t most_pixels() const { return band_rows() * ImageBf16(v_, band_rows(), own_runs_).grid(); }
  int64_t band_rows() const { return divide_up(v_.rows, bands_); }
  int64_t table_bytes() const { return align_up(groups_ * int64_t(sizeof(GroupBf16))); }
  int columns(int64_t tile) const { return int(std::min<int64_t>(kSide, v_.group_out - tile * kSide)); }

  // Where the K of a tap row are neither one run nor whole groups for each tap, they are copied into one first.
  bool one_run() const { return v_.w_in == 1 && v_.tap_w.kernel_step == 1 && v_.w_col == v_.group_in; }
  bool copied() const { return !one_run() && v_.tap_w.count > 1 && v_.group_in % kGroup != 0; }
  void pack_weights(float* copy) const {
    for (int64_t g = 0; g < v_.groups; g++)
      for (int64_t tile = 0; tile < tiles_; tile++)
        for (int64_t r = 0; r < v_.tap_h.count; r++) {
          const float* from = weight_ + g * v_.w_group + tile * kSide * v_.w_out;
          Bf16* to = packed_ + (g * tiles_ + tile) * stride_ + r * run_groups_ * kOperandTile;
          if (one_run())
            pack_bf16({from + v_.weight_at(r, 0), 1, v_.w_out}, 0, run_, 0, columns(tile), PackForm::pairs, to);
          else if (copied()) pack_copied(from, r, columns(tile), copy, to);
          else
            for (int64_t s = 0; s < v_.tap_w.count; s++)
              pack_bf16({from + v_.weight_at(r, s), v_.w_in, v_.w_out}, 0, v_.group_in, 0, columns(tile),
                        PackForm::pairs, to + s * v_.group_in * kSide);
        }
  }
  void pack_copied(const float* from, int64_t r, int n, float* copy, Bf16* to) const {
    float* k = copy;
    for (int64_t s = 0; s < v_.tap_w.count; s++)
      for (int64_t c = 0; c < v_.group_in; c++, k += kSide)
        for (int j = 0; j < n; j++) k[j] = from[v_.weight_at(r, s) + c * v_.w_in + j * v_.w_out];
    pack_bf16({copy, kSide, 1}, 0, run_, 0, n, PackForm::pairs, to);
  }

  // Depthwise, by floats: for every tap where it is in the window, and its weights, channel by channel; the taps of a
  // row are groups of K.
  int64_t lanes() const { return divide_up(v_.groups, kSide) * kSide; }
  int64_t lane_tables() const { return divide_up(v_.taps() + groups_ + 1, 8) * 8; }
  void prepare_lanes(const ImageBf16& image, int64_t* memory) {
    offset_ = memory;
    int64_t* start = offset_ + v_.taps();
    lane_weight_ = reinterpret_cast<float*>(offset_ + lane_tables());
    *start = 0;
    for (int64_t r = 0; r < v_.tap_h.count; r++) {
      for (int64_t s = 0; s < v_.tap_w.count; s++) {
        const int64_t tap = r * v_.tap_w.count + s;
        if (s % kGroup == 0 && tap > 0) *++start = tap;
        offset_[tap] = image.tap(r) + s * v_.tap_w.offset_step * v_.in_c;
        for (int64_t g = 0; g < lanes(); g++)
          lane_weight_[tap * lanes() + g] =
              g < v_.groups ? to_float(to_bf16(weight_[g * v_.w_group + v_.weight_at(r, s)])) : 0;
      }
    }
    *++start = v_.taps();
  }
  void run_depthwise(const Work& work) const {
    float *const window = work.sums, *const sums = window + image_count();
    load_stored(work.window, image_count(), window);
    for (int64_t row = 0; row < work.rows; row++)
      for (int64_t j = 0; j < v_.groups; j += kSide) {
        run_lanes({.a = window + row * work.image.row_step() + j,
                   .a_next = work.image.pixel_step(),
                   .a_at = offset_,
                   .b = lane_weight_ + j,
                   .b_step = lanes(),
                   .start = offset_ + v_.taps(),
                   .groups = groups_,
                   .count = v_.cols,
                   .sum = sums});
        put_tile(sums, int(v_.cols), int(std::min<int64_t>(kSide, v_.groups - j)), bias_ ? bias_ + j : nullptr, false,
                 out_.from(work.out + row * v_.out_row + j), v_.out_col);
      }
  }

  // Outputs of two tiles, all pixels.
  void run_columns(const Work& work, int64_t group, int64_t tile) const {
    const int64_t step = work.image.pixel_step(), pixels = (work.rows - 1) * line(work.image) + v_.cols;
    BlockBf16 block{.a = {},
                    .a_step = step,
                    .half = {},
                    .b = {packed_ + (group * tiles_ + tile) * stride_, packed_ + (group * tiles_ + tile + 1) * stride_},
                    .group = group_,
                    .groups = groups_,
                    .tall = 0,
                    .wide = int(std::min<int64_t>(kBlockSide, tiles_ - tile)),
                    .sum = work.sums,
                    .fresh = true};
    const int64_t chunk = divide_up(groups_, std::max<int64_t>(1, divide_up(groups_, kChunk)));
    for (int64_t g = 0; g < groups_ || g == 0; g += std::max<int64_t>(1, chunk)) {
      const bool last = g + chunk >= groups_;
      block.group = group_ + g, block.groups = std::min(chunk, groups_ - g);
      block.fresh = g == 0;
      Halves halves{v_.cols, step, work.image.row_step(), line(work.image) == work.image.grid()};
      for (int64_t pixel = 0; pixel < pixels; pixel += kBlock) {
        for (int t = 0; t < kBlockSide; t++) {
          const int64_t from = halves.next();
          block.a[t] = work.window + from, block.half[t] = halves.next() - from;
        }
        block.tall = pixel + kSide < pixels ? 2 : 1;
        if (skips_) find_inside(work, pixel, block);
        if (chunk < groups_) block.sum = work.sums + pixel / kBlock * kBlockSums;
        run_block(block);
        if (!last) continue;
        for (int t = 0; t < block.tall; t++)
          put(work, group, tile, pixel + t * kSide, block.sum + kBlockSide * t * kSumTile);
      }
      for (const Bf16*& b : block.b) b += chunk * kOperandTile;
    }
  }
  // Pixels from one row of outputs to the next.
  int64_t line(const ImageBf16& image) const {
    return v_.cols % (halves_may_part() ? kHalfSide : kSide) == 0 ? v_.cols : image.grid();
  }
  bool pads_rows() const {  // whether tap rows of the first or last outputs are outside the image
    auto whole = [&](int64_t row) {
      const Stretch taps = stretch_at(v_.tap_h, v_.step_h, v_.in_h, row);
      return taps.last - taps.first == v_.tap_h.count;
    };
    return !whole(0) || !whole(v_.rows - 1);
  }
  // The groups of a block whose tap rows are inside the image: elsewhere zeros meet weights, which are finite.
  void find_inside(const Work& work, int64_t pixel, BlockBf16& block) const {
    const int64_t first = block.group - group_;
    block.skips = false;
    for (int t = 0; t < block.tall; t++)
      for (int h = 0; h < 2; h++) {
        const Stretch taps = taps_inside(work, pixel + t * kSide + h * kHalfSide);
        GroupRange& r = block.inside[t][h] = {std::max<int64_t>(0, taps.first * run_groups_ - first),
                                              std::max<int64_t>(0, taps.last * run_groups_ - first)};
        block.skips |= r.from > 0 || r.to < block.groups;
      }
  }
  // Tap rows [first, last) that any of half a tile of pixels has in the image.
  Stretch taps_inside(const Work& work, int64_t pixel) const {
    const int64_t pitch = line(work.image), last = std::min(work.rows - 1, (pixel + kHalfSide - 1) / pitch);
    Stretch all{0, 0, v_.tap_h.count, 0};
    for (int64_t row = std::min(last, pixel / pitch); row <= last; row++) {
      const Stretch taps = stretch_at(v_.tap_h, v_.step_h, v_.in_h, work.first + row);
      if (taps.first == taps.last) continue;
      all.first = std::min(all.first, taps.first), all.last = std::max(all.last, taps.last);
    }
    return all.last > 0 ? all : Stretch{};
  }
  // Where every kHalfSide-th pixel is in the window; without gaps between rows, or on its grid.
  struct Halves {
    int64_t cols, step, row_step;
    bool on_grid;
    int64_t row = 0, col = 0;
    int64_t next() {
      const int64_t here = row + col * step;
      col += kHalfSide;
      if (!on_grid && col == cols) col = 0, row += row_step;
      return here;
    }
  };
  // kSide pixels; those beyond the last column belong to nobody.
  void put(const Work& work, int64_t group, int64_t tile, int64_t pixel, const float* sum) const {
    const int64_t pitch = line(work.image), last = std::min((work.rows - 1) * pitch + v_.cols, pixel + kSide);
    const int64_t channel = group * v_.group_out + tile * kSide;
    const int n = int(std::min<int64_t>(kBlock, v_.group_out - tile * kSide));
    for (int64_t at = pixel; at < last;) {
      const int64_t row = at / pitch, col = at % pitch, end = std::min(last, (row + 1) * pitch);
      const int64_t rows = std::min(end, row * pitch + v_.cols) - at;
      if (rows > 0)
        put_tile(sum + (at - pixel) * kSide, int(rows), n, bias_ ? bias_ + channel : nullptr, false,
                 out_.from(work.out + row * v_.out_row + col * v_.out_col + channel), v_.out_col);
      at = end;
    }
  }

  const TapConv v_;
  const NumbersBf16 source_;
  const float *weight_, *bias_;
  const OutBf16 out_;
  const Follow follow_;
  int64_t run_, run_groups_, groups_, stride_, tiles_, bands_, images_;
  bool own_runs_, depthwise_, skips_ = false;
  int64_t* offset_ = nullptr;  // depthwise
  float* lane_weight_ = nullptr;
  GroupBf16* group_ = nullptr;
  Bf16* packed_ = nullptr;
};

}  // namespace

double conv_ns_bf16(const TapConv& v) {
  const double moved = double(v.n) * double(v.in_h * v.in_w * v.in_c + v.rows * v.cols * v.groups * v.group_out);
  return v.flops() / (v.depthwise() ? kLaneFlopsPerNs : flops_per_ns_bf16()) + moved * kMoveNs;
}

void conv_taps_bf16(const Exec& exec, const TapConv& v, const NumbersBf16& source, const float* weight,
                    const float* bias, const OutBf16& out, const Follow& follow) {
  if (v.n == 0 || v.rows == 0 || v.cols == 0 || v.group_out == 0) return;
  TapRun run(v, source, weight, bias, out, follow);
  run.prepare(exec.scratch<std::byte>(0, Slot::shared_pack, run.memory_bytes()));
  exec.parallel(run.units(), conv_ns_bf16(v), [&](int64_t unit, int worker) {
    run.run(unit, exec.scratch<Bf16>(worker, Slot::a_pack, run.image_count()),
            exec.scratch<float>(worker, Slot::tile, run.sum_count()));
  });
}

}  // namespace thalweg
