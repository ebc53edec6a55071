// conv_bf16.cpp: convolutions with bf16 operands (weights are floats, rounded on the way).
//   conv_bf16 [threads ...]        (default: 1 2)
// Columns: GFLOP/s with x, y and their gradients stored as bf16, and stored as floats (taps in the padding count); how
// many times faster the first is than our float32 convolution, and than oneDNN's in bf16 with every operand, weights
// too, in the layout that it likes best.

#include "bf16.h"

using namespace thalweg;
using namespace thalweg::bench;

namespace {

void layer(const Exec& exec, const Conv& v) {
  const auto x = random_floats(v.n * v.h * v.w * v.c), w = random_floats(v.out * v.kh * v.kw * v.group_in());
  const auto d_y = random_floats(v.n * v.out_h() * v.out_w() * v.out);
  const auto x16 = rounded(x), d_y16 = rounded(d_y);
  const Arena y(d_y.bytes()), d_x(x.bytes()), d_w(w.bytes());
  const int threads = exec.pool.threads();
  const Kernels& kernel = kernels();
  const Shards cut = Shards::of(v.n, 8, 0, 8);
  std::printf("%ldx%ld %ld->%ld at %ldx%ld, batch %ld, stride %ld, groups %ld, %d thread%s\n", long(v.kh), long(v.kw),
              long(v.c), long(v.out), long(v.h), long(v.w), long(v.n), long(v.stride_h), long(v.groups), threads,
              threads > 1 ? "s" : "");
  report("forward", threads, v.flops(),
         {[&] { kernel.bf16.conv_forward(exec, v, halves(x16), floats(w), nullptr, halves(y), {}); },
          [&] { kernel.bf16_of_floats.conv_forward(exec, v, floats(x), floats(w), nullptr, floats(y), {}); },
          [&] { kernel.conv_forward_f32(exec, v, floats(x), floats(w), nullptr, floats(y), false, {}); },
          onednn_conv(v, ConvPart::forward, threads, true),
          {}});
  report("d_x", threads, v.flops(),
         {[&] { kernel.bf16.conv_backward_input(exec, v, halves(d_y16), floats(w), halves(d_x), {}); },
          [&] { kernel.bf16_of_floats.conv_backward_input(exec, v, floats(d_y), floats(w), floats(d_x), {}); },
          [&] { kernel.conv_backward_input_f32(exec, v, floats(d_y), floats(w), floats(d_x), false, {}); },
          onednn_conv(v, ConvPart::backward_input, threads, true),
          {}});
  report("d_w, 8 shards", threads, v.flops(),
         {[&] { kernel.bf16.conv_backward_weight(exec, v, cut, halves(x16), halves(d_y16), floats(d_w)); },
          [&] { kernel.bf16_of_floats.conv_backward_weight(exec, v, cut, floats(x), floats(d_y), floats(d_w)); },
          [&] { kernel.conv_backward_weight_f32(exec, v, cut, floats(x), floats(d_y), floats(d_w), false); },
          onednn_conv(v, ConvPart::backward_weight, threads, true),
          {}});
}

}  // namespace

int main(int argc, char** argv) {
  const Conv shapes[] = {
      square(64, 32, 3, 32, 3),      square(64, 16, 32, 64, 3),         square(64, 8, 64, 128, 3),
      square(128, 32, 16, 16, 3),    square(128, 16, 32, 32, 3),        square(128, 8, 64, 64, 3),
      square(128, 32, 16, 32, 3, 2), square(128, 16, 32, 64, 3, 2),     square(128, 32, 16, 32, 1, 2),
      square(64, 16, 64, 128, 1),    square(32, 16, 128, 128, 3, 1, 4), square(32, 16, 128, 128, 3, 1, 128)};
  return for_threads(argc, argv, [&](const Exec& exec) {
    for (const Conv& v : shapes) layer(exec, v);
  });
}
