// gemm_bf16.cpp: the products of dense layers with bf16 operands (weights are floats, rounded on the way).
//   gemm_bf16 [threads ...]        (default: 1 2)
// Columns: GFLOP/s with x, y and their gradients stored as bf16, and stored as floats; how many times faster the first
// is than our float32 product, and than oneDNN's bf16 product given bf16 weights, plain or laid out in advance.

#include "bf16.h"

using namespace thalweg;
using namespace thalweg::bench;

namespace {

// A dense layer of n outputs and k inputs on m rows: forward, d_x, and d_w with 1 and 8 shards.
void layer(const Exec& exec, int64_t m, int64_t n, int64_t k) {
  const auto x = random_floats(m * k), w = random_floats(n * k), d_y = random_floats(m * n);
  const auto x16 = rounded(x), d_y16 = rounded(d_y);
  const Arena y(m * n * 4), d_x(m * k * 4), d_w(n * k * 4);
  const int threads = exec.pool.threads();
  const double flops = 2.0 * double(m * n) * double(k);
  const Kernels& kernel = kernels();
  std::printf("%ld x %ld x %ld (rows, outputs, inputs), %d thread%s\n", long(m), long(n), long(k), threads,
              threads > 1 ? "s" : "");
  const Matmul forward{m, n, k, k, 1, 1, k, n}, back{m, k, n, n, 1, k, 1, k}, weight{n, k, m, 1, n, k, 1, k};
  report("forward", threads, flops,
         {[&] { kernel.bf16.matmul(exec, forward, halves(x16), floats(w), nullptr, halves(y), {}); },
          [&] { kernel.bf16_of_floats.matmul(exec, forward, floats(x), floats(w), nullptr, floats(y), {}); },
          [&] { kernel.matmul_f32(exec, forward, floats(x), floats(w), nullptr, floats(y), {}); },
          onednn_matmul_bf16({m, n, k, false, true, false}, threads),
          onednn_matmul_bf16({m, n, k, false, true, true}, threads)});
  report("d_x", threads, flops,
         {[&] { kernel.bf16.matmul(exec, back, halves(d_y16), floats(w), nullptr, halves(d_x), {}); },
          [&] { kernel.bf16_of_floats.matmul(exec, back, floats(d_y), floats(w), nullptr, floats(d_x), {}); },
          [&] { kernel.matmul_f32(exec, back, floats(d_y), floats(w), nullptr, floats(d_x), {}); },
          onednn_matmul_bf16({m, k, n, false, false, false}, threads),
          onednn_matmul_bf16({m, k, n, false, false, true}, threads)});
  for (int64_t shards : {1, 8}) {
    const Shards cut = Shards::of(m, shards, 0, shards);
    report(shards == 1 ? "d_w, 1 shard" : "d_w, 8 shards", threads, flops,
           {[&] { kernel.bf16.matmul_fold(exec, weight, cut, halves(d_y16), halves(x16), floats(d_w)); },
            [&] { kernel.bf16_of_floats.matmul_fold(exec, weight, cut, floats(d_y), floats(x), floats(d_w)); },
            [&] { kernel.matmul_fold_f32(exec, weight, cut, floats(d_y), floats(x), floats(d_w)); },
            onednn_matmul_bf16({n, k, m, true, false, false}, threads),
            {}});
  }
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int64_t shapes[][3] = {{128, 512, 784},  {128, 512, 512},   {128, 10, 512},
                                   {512, 2048, 784}, {512, 2048, 2048}, {512, 10, 2048}};
  return for_threads(argc, argv, [&](const Exec& exec) {
    for (auto [m, n, k] : shapes) layer(exec, m, n, k);
  });
}
