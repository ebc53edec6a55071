// conv.cpp: convolutions against the machine's peak and oneDNN.
//   conv [threads ...]        (default: 1 2)
// Columns: our GFLOP/s (taps in the padding count, and so do multiplications that squares of outputs save, so it can
// exceed the peak), share of the fma peak of the same rounds, how many times faster than oneDNN with every operand in
// the layout that it likes best, and than our own plain sums, where these are others (conv_winograd.h).
#include <cstdio>
#include <functional>

#include "exec/conv_winograd.h"
#include "memory.h"
#include "peak.h"
#include "products.h"

using namespace thalweg;
using namespace thalweg::bench;

namespace {

float* floats(const Arena& a) { return reinterpret_cast<float*>(a.data()); }

// ours(v): for the convolution that is asked for, and for the same by plain sums.
void report(const char* what, const Exec& exec, const Conv& v, const std::function<void(const Conv&)>& ours,
            const Job& peer) {
  const int threads = exec.pool.threads();
  const double flops = v.flops();
  Conv direct = v;
  direct.direct = true;
  const Job plain = conv_winograd_fits(v) ? Job([&] { ours(direct); }) : Job{};
  const Race r = race({[&] { peak<float>(exec); }, [&] { ours(v); }, peer, plain}, 7, 0.01, threads > 1 ? 0.006 : 0);
  const double share = flops / (kPeakFlops<float> * threads) * r.speedup(1, 0);
  std::printf("  %-22s %7.1f GFLOP/s  %5.1f %% of peak", what, flops / r.time(1) / 1e9, 100 * share);
  if (peer) std::printf("   %.2f", r.speedup(1, 2));
  if (plain) std::printf("   plain %.2f", r.speedup(1, 3));
  std::printf("   %.1f us\n", r.time(1) * 1e6);
}

void layer(const Exec& exec, const Conv& v) {
  const auto x = random_floats(v.n * v.h * v.w * v.c), w = random_floats(v.out * v.kh * v.kw * v.group_in());
  const auto d_y = random_floats(v.n * v.out_h() * v.out_w() * v.out);
  const Arena y(d_y.bytes()), d_x(x.bytes()), d_w(w.bytes());
  const int threads = exec.pool.threads();
  const Kernels& kernel = kernels();
  std::printf("%ldx%ld %ld->%ld at %ldx%ld, batch %ld, stride %ld, groups %ld, %d thread%s\n", long(v.kh), long(v.kw),
              long(v.c), long(v.out), long(v.h), long(v.w), long(v.n), long(v.stride_h), long(v.groups), threads,
              threads > 1 ? "s" : "");
  report(
      "forward", exec, v,
      [&](const Conv& v) { kernel.conv_forward_f32(exec, v, floats(x), floats(w), nullptr, floats(y), false, {}); },
      onednn_conv(v, ConvPart::forward, threads));
  report(
      "d_x", exec, v,
      [&](const Conv& v) { kernel.conv_backward_input_f32(exec, v, floats(d_y), floats(w), floats(d_x), false, {}); },
      onednn_conv(v, ConvPart::backward_input, threads));
  for (int64_t shards : {1, 8}) {
    const Shards cut = Shards::of(v.n, shards, 0, shards);
    report(
        shards == 1 ? "d_w, 1 shard" : "d_w, 8 shards", exec, v,
        [&](const Conv& v) {
          kernel.conv_backward_weight_f32(exec, v, cut, floats(x), floats(d_y), floats(d_w), false);
        },
        shards == 1 ? onednn_conv(v, ConvPart::backward_weight, threads) : Job{});
  }
}

Conv unpadded(int64_t n, int64_t size, int64_t c, int64_t out, int64_t kernel, int64_t stride = 1) {
  Conv v = square(n, size, c, out, kernel, stride);
  v.pad_top = v.pad_bottom = v.pad_left = v.pad_right = 0;
  return v;
}

}  // namespace

int main(int argc, char** argv) {
  const Conv shapes[] = {
      square(64, 32, 3, 32, 3),  // the network 32-64-128
      square(64, 16, 32, 64, 3),       square(64, 16, 64, 128, 3),        square(128, 32, 3, 16, 3),  // ResNet-20
      square(128, 32, 16, 16, 3),      square(128, 32, 16, 32, 3, 2),     square(128, 32, 16, 32, 1, 2),
      square(128, 16, 32, 32, 3),      square(128, 16, 32, 64, 3, 2),     square(128, 8, 64, 64, 3),
      square(128, 28, 1, 6, 5),                                          // LeNet-5
      unpadded(128, 14, 6, 16, 5),     unpadded(16, 227, 3, 64, 11, 4),  // AlexNet
      square(16, 27, 64, 192, 5),      square(16, 13, 192, 384, 3),       square(16, 13, 384, 256, 3),
      square(64, 16, 64, 128, 1),  // other kinds
      square(16, 56, 32, 32, 7),       square(32, 16, 128, 128, 3, 1, 4), square(32, 16, 128, 128, 3, 1, 128),
      square(8, 56, 64, 64, 3, 2, 64), square(8, 56, 64, 64, 5, 1, 64),
  };
  return for_threads(argc, argv, [&](const Exec& exec) {
    for (const Conv& v : shapes) layer(exec, v);
  });
}
