// roofline.cpp: the limits of this machine, against which every other figure is read.
//   roofline [threads ...]        (default: 1 2)
// fma: independent chains in registers. Read: a buffer that fits L2 (256 KB a thread), L3 (4 MB a thread) or neither
// (64 MB a thread). Copy: bytes read plus bytes written, with ordinary and with streaming stores. Best of 9 rounds.
#include <cstdio>
#include <cstdlib>

#include "memory.h"
#include "peak.h"

using namespace thalweg;
using namespace thalweg::bench;

namespace {

using V = Vector<float>;

// Sums n floats in eight chains, so that loads are what it waits for.
void read_all(const float* p, int64_t n) {
  V sum[8] = {};
  for (int64_t i = 0; i < n; i += 8 * kLanes<float>) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++) sum[v] += load(p + i + v * kLanes<float>);
  }
  for (int v = 1; v < 8; v++) sum[0] += sum[v];
  __asm__ volatile("" : : "x"(sum[0][0]));
}
void copy_all(float* to, const float* from, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes<float>) store(to + i, load(from + i));
}
void stream_all(float* to, const float* from, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes<float>) {
    const V v = load(from + i);
#if defined(__AVX512F__)
    _mm512_stream_ps(to + i, (__m512)v);
#elif defined(__AVX2__)
    _mm256_stream_ps(to + i, (__m256)v);
#else
    store(to + i, v);
#endif
  }
}

// f(thread) on every thread at once.
template <class F>
Job everywhere(const Exec& exec, F f) {
  return [&exec, f] { exec.parallel(exec.pool.threads(), 1e9, [&](int64_t t, int) { f(t); }); };
}

void run(const Exec& exec) {
  const int threads = exec.pool.threads();
  const int64_t far = 16 << 20;  // floats a thread: 64 MB
  std::vector<Arena> from, to;
  for (int t = 0; t < threads; t++) from.emplace_back(far * 4), to.emplace_back(far * 4);
  auto source = [&](int64_t t) { return reinterpret_cast<const float*>(from[size_t(t)].data()); };
  auto target = [&](int64_t t) { return reinterpret_cast<float*>(to[size_t(t)].data()); };
  auto read = [&](int64_t n, int times) {
    return everywhere(exec, [=](int64_t t) {
      for (int i = 0; i < times; i++) read_all(source(t), n);
    });
  };
  const Race r = race({[&] { peak<float>(exec); }, [&] { peak<double>(exec); }, read(64 << 10, 64), read(1 << 20, 4),
                       read(far, 1), everywhere(exec, [=](int64_t t) { copy_all(target(t), source(t), far); }),
                       everywhere(exec, [=](int64_t t) { stream_all(target(t), source(t), far); })},
                      9, 0.02);
  std::printf("%d thread%s\n", threads, threads > 1 ? "s" : "");
  auto line = [&](const char* what, size_t i, double amount, const char* unit) {
    std::printf("  %-24s %8.1f %s\n", what, threads * amount / r.best(i) / 1e9, unit);
  };
  line("fma, float", 0, kPeakFlops<float>, "GFLOP/s");
  line("fma, double", 1, kPeakFlops<double>, "GFLOP/s");
  line("read, L2", 2, 64 * 4.0 * (64 << 10), "GB/s");
  line("read, L3", 3, 4 * 4.0 * (1 << 20), "GB/s");
  line("read, memory", 4, 4.0 * double(far), "GB/s");
  line("copy", 5, 8.0 * double(far), "GB/s");
  line("copy, streaming stores", 6, 8.0 * double(far), "GB/s");
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int> threads;
  for (int i = 1; i < argc; i++) threads.push_back(std::atoi(argv[i]));
  if (threads.empty()) threads = {1, 2};
  for (int t : threads) {
    const auto pool = make_pool(t);
    run(Exec{*pool});
  }
}
