// image_bf16.h: a window of an image as bf16 with zeros around it, in scratch memory, laid out so that the taps of
// output pixels lie at constant distances: output pixel (p, q) of the window, tap row r, reads its run of kw * in
// numbers at tap(r) + p row_step + q pixel_step. Rows that a stride keeps apart lie together. Either the runs are read
// where they overlap, in the image itself, or each has a place of its own, filled up with zeros to whole groups.
#pragma once
#include <cstring>

#include "conv_taps.h"
#include "pack_bf16.h"
#include "tile.h"

namespace thalweg {

class ImageBf16 {
 public:
  // Of one group of channels. own_runs: whether every pixel's run has a place of its own.
  ImageBf16(const TapConv& v, int64_t out_rows, bool own_runs) : v_(v), own_runs_(own_runs) {
    run_ = v.tap_w.count * v.group_in;
    rows_ = std::max<int64_t>(0, (out_rows - 1) * v.step_h + (v.tap_h.count - 1) * v.tap_h.offset_step + 1);
    phase_rows_ = divide_up(rows_, v.step_h);
    width_ = std::max<int64_t>(0, (v.cols - 1) * v.step_w + (v.tap_w.count - 1) * v.tap_w.offset_step + 1);
    width_ = divide_up(width_, v.step_w) * v.step_w;
    room_ = divide_up(run_, kGroup) * kGroup;
    pixel_step_ = own_runs ? room_ : v.step_w * v.in_c;
    grid_ = own_runs ? v.cols : std::max(v.cols, width_ / v.step_w);
  }
  static bool runs_overlap(const TapConv& v) {  // as they lie in the image
    return v.groups == 1 && (v.tap_w.offset_step == 1 || v.tap_w.count == 1);
  }
  // Whether tiles of A can be read there: runs are whole groups, and begin with a quad where those are turned.
  static bool runs_are_operands(const TapConv& v) {
    return runs_overlap(v) && v.tap_w.count * v.group_in % kGroup == 0 &&
           (!turns_quads() || v.step_w * v.in_c % 4 == 0);
  }

  int64_t run() const { return run_; }
  int64_t pixel_step() const { return pixel_step_; }
  int64_t grid() const { return grid_; }  // pixels from one row of outputs to the next: v.cols or a few more
  int64_t row_step() const { return grid_ * pixel_step_; }
  int64_t tap(int64_t r) const { return place(r * v_.tap_h.offset_step) * row_step(); }
  // All reads of kBlock pixels from any pixel of the window on are inside.
  int64_t count() const { return own_runs_ ? align(window_count()) + align(line_count()) : align(window_count()); }

  // Rows of outputs from `first` on, of the image at `from`. operand: for tiles of A (turn_bf16).
  void build(const NumbersBf16& from, int64_t first, int64_t group, Bf16* to, bool operand = false) const {
    Bf16* line = to + align(window_count());
    for (int64_t i = 0; i < rows_; i++) {
      if (!read(i)) continue;
      Bf16* row = to + place(i) * row_step();
      copy_line(from, first * v_.step_h + v_.tap_h.offset + i, own_runs_ ? line : row);
      if (own_runs_) spread_runs(line + group * v_.group_in, row);
      if (operand) turn_bf16(row, own_runs_ ? v_.cols * room_ : line_count());
    }
  }

 private:
  static int64_t align(int64_t n) { return divide_up(n, kGroup) * kGroup; }
  int64_t place(int64_t i) const { return i % v_.step_h * phase_rows_ + i / v_.step_h; }
  int64_t line_count() const { return width_ * v_.in_c; }
  int64_t window_count() const { return phase_rows_ * v_.step_h * row_step() + (kBlock + grid_) * pixel_step_ + room_; }
  bool read(int64_t i) const {
    for (int64_t r = 0; r < std::min(v_.tap_h.count, v_.step_h); r++)
      if ((r * v_.tap_h.offset_step - i) % v_.step_h == 0) return true;
    return false;
  }
  void copy_line(const NumbersBf16& from, int64_t row, Bf16* to) const {
    const int64_t col = v_.tap_w.offset, c = v_.in_c;
    const int64_t begin = std::clamp<int64_t>(-col, 0, width_), end = std::clamp<int64_t>(v_.in_w - col, begin, width_);
    if (row < 0 || row >= v_.in_h || begin == end) {
      std::memset(to, 0, line_count() * sizeof(Bf16));
      return;
    }
    std::memset(to, 0, begin * c * sizeof(Bf16));
    copy_bf16(from.from((row * v_.in_w + col + begin) * c), (end - begin) * c, to + begin * c);
    std::memset(to + end * c, 0, (width_ - end) * c * sizeof(Bf16));
  }
  void spread_runs(const Bf16* line, Bf16* to) const {
    if (runs_overlap(v_)) return spread_bf16(line, v_.step_w * v_.in_c, v_.cols, run_, room_, to);
    for (int64_t q = 0; q < v_.cols; q++, to += room_) {
      std::memset(to, 0, room_ * sizeof(Bf16));
      for (int64_t s = 0; s < v_.tap_w.count; s++)
        std::memcpy(to + s * v_.group_in, line + (q * v_.step_w + s * v_.tap_w.offset_step) * v_.in_c,
                    v_.group_in * sizeof(Bf16));
    }
  }

  const TapConv v_;
  bool own_runs_;
  int64_t run_, rows_, phase_rows_, width_, room_, pixel_step_, grid_;
};

}  // namespace thalweg
