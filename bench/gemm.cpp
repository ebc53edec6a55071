// gemm.cpp: matrix products of the dense layers against the machine's peak and oneDNN.
//   gemm [threads ...]        (default: 1 2)
// Columns: our GFLOP/s, share of the fma peak of the same rounds, and how many times faster than oneDNN, given plain
// weights and (in brackets) weights that it laid out in advance.
#include <cstdio>

#include "memory.h"
#include "peak.h"
#include "products.h"

using namespace thalweg;
using namespace thalweg::bench;

namespace {

float* floats(const Arena& a) { return reinterpret_cast<float*>(a.data()); }

void report(const char* what, const Exec& exec, double flops, const std::vector<Job>& jobs) {
  std::vector<Job> all{[&] { peak<float>(exec); }};
  all.insert(all.end(), jobs.begin(), jobs.end());
  const int threads = exec.pool.threads();
  const Race r = race(all, 9, 0.008, threads > 1 ? 0.006 : 0);
  const double share = flops / (kPeakFlops<float> * threads) * r.speedup(1, 0);
  std::printf("  %-22s %7.1f GFLOP/s  %5.1f %% of peak", what, flops / r.time(1) / 1e9, 100 * share);
  if (have_onednn() && jobs.size() > 1) std::printf("   %.2f", r.speedup(1, 2));
  if (have_onednn() && jobs.size() > 2) std::printf(" (%.2f)", r.speedup(1, 3));
  std::printf("   %.1f us\n", r.time(1) * 1e6);
}

// A dense layer of n outputs and k inputs on m rows: forward, d_x, and d_w with 1 and 8 shards.
void layer(const Exec& exec, int64_t m, int64_t n, int64_t k) {
  const auto x = random_floats(m * k), w = random_floats(n * k), d_y = random_floats(m * n);
  const Arena y(m * n * 4), d_x(m * k * 4), d_w(n * k * 4);
  const int threads = exec.pool.threads();
  const double flops = 2.0 * double(m * n) * double(k);
  const Kernels& kernel = kernels();
  std::printf("%ld x %ld x %ld (rows, outputs, inputs), %d thread%s\n", long(m), long(n), long(k), threads,
              threads > 1 ? "s" : "");
  auto peer = [&](PeerMatmul p, const float* a, const float* b, float* c) {
    return onednn_matmul(p, threads, a, b, c);
  };
  report("forward", exec, flops,
         {[&] { kernel.matmul_f32(exec, {m, n, k, k, 1, 1, k, n}, floats(x), floats(w), nullptr, floats(y), {}); },
          peer({m, n, k, false, true, false}, floats(x), floats(w), floats(y)),
          peer({m, n, k, false, true, true}, floats(x), floats(w), floats(y))});
  report("d_x", exec, flops,
         {[&] { kernel.matmul_f32(exec, {m, k, n, n, 1, k, 1, k}, floats(d_y), floats(w), nullptr, floats(d_x), {}); },
          peer({m, k, n, false, false, false}, floats(d_y), floats(w), floats(d_x)),
          peer({m, k, n, false, false, true}, floats(d_y), floats(w), floats(d_x))});
  for (int64_t shards : {1, 8}) {
    const Shards cut = Shards::of(m, shards, 0, shards);
    report(shards == 1 ? "d_w, 1 shard" : "d_w, 8 shards", exec, flops,
           {[&] { kernel.matmul_fold_f32(exec, {n, k, m, 1, n, k, 1, k}, cut, floats(d_y), floats(x), floats(d_w)); },
            peer({n, k, m, true, false, false}, floats(d_y), floats(x), floats(d_w))});
  }
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int64_t shapes[][3] = {{32, 128, 64},   {32, 10, 128},    {128, 512, 784},   {128, 512, 512},
                                   {128, 10, 512},  {512, 2048, 784}, {512, 2048, 2048}, {16384, 128, 64},
                                   {128, 120, 400}, {128, 84, 120},   {16, 4096, 9216},  {16, 4096, 4096}};
  return for_threads(argc, argv, [&](const Exec& exec) {
    for (auto [m, n, k] : shapes) layer(exec, m, n, k);
  });
}
