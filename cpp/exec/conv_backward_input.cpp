// conv_backward_input.cpp: d_x from d_y, phase by phase (conv_taps.h), in blocks of kKBlock. All phases of a few images
// follow each other, as they read the same d_y and write beside each other.
#include "conv.h"
#include "conv_taps.h"
#include "conv_winograd.h"
#include "tile.h"

namespace thalweg {
namespace {

constexpr int64_t kNearBytes = 1 << 20;  // of d_x and d_y: L2
constexpr int64_t kWeightUses = 16;      // numbers of images for a number of the weight, which every part packs

// Parts that a thread runs by itself, all phases of a part; 1: all threads share each phase.
int64_t parts(const Conv& v, int threads, int64_t number_bytes) {
  if (v.stride_h == 1 && v.stride_w == 1) return 1;
  const int64_t weight = v.out * v.kh * v.kw * v.group_in();
  const int64_t numbers = std::max(kNearBytes / number_bytes, kWeightUses * weight);
  const int64_t image = v.h * v.w * v.c + v.out_h() * v.out_w() * v.out;
  const int64_t even = std::min(v.n, v.n * image / numbers) / threads * threads;
  return std::max<int64_t>(1, even);
}

}  // namespace

template <class T>
void conv_backward_input(const Exec& exec, const Conv& v, const T* d_y, const T* weight, T* d_x, bool accumulate,
                         const Follow& follow) {
  if constexpr (sizeof(T) == 4)
    if (conv_winograd_fits(v))  // of stride 1: one phase
      return each_phase(v, [&](const TapConv& taps, int64_t) {
        conv_winograd(exec, taps, d_y, weight, nullptr, d_x, accumulate, follow);
      });
  const int64_t x_image = v.h * v.w * v.c, y_image = v.out_h() * v.out_w() * v.out;
  bool inside = true;
  each_phase(v, [&](const TapConv& taps, int64_t) { inside &= conv_taps_follows<T>(taps); });
  auto run = [&](const Exec& on, int64_t begin, int64_t end) {
    Conv part = v;
    part.n = end - begin;
    each_phase(part, [&](const TapConv& taps, int64_t first) {
      const int64_t at = begin * x_image + first;
      conv_taps<T>(on, taps, d_y + begin * y_image, weight, nullptr, d_x + at, accumulate,
                   inside ? follow.from(at) : Follow{});
    });
  };
  const double ns = conv_ns(v.flops(), sizeof(T) == 8);
  const int64_t count = parts(v, exec.threads_for(ns), sizeof(T));
  if (count == 1) run(exec, 0, v.n);
  else
    exec.parallel(count, ns,
                  [&](int64_t i, int worker) { run(exec.alone(worker), i * v.n / count, (i + 1) * v.n / count); });
  if (follow && !inside) follow_all(exec, v.n * x_image, follow);
}
template void conv_backward_input(const Exec&, const Conv&, const float*, const float*, float*, bool, const Follow&);
template void conv_backward_input(const Exec&, const Conv&, const double*, const double*, double*, bool, const Follow&);

}  // namespace thalweg
