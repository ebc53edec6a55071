// throughput.cu: element loops on the GPU against its copy bandwidth: gelu and its backward formula, and the update of
// Adam, the functors that the engine runs.
//   bench_gpu [elements]             (default: 64 Mi)
// Columns: milliseconds (median over rounds), GB/s counting each array read and written once, and that rate as a share
// of a plain copy's.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "../../cpp/formula/activation.h"
#include "../../cpp/optim/rules.h"
#include "../../cuda/exec/for_each.h"

namespace thalweg {
namespace {

class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  void record() { check(cudaEventRecord(event_), "an event"); }
  double seconds_since(const Event& start) {
    float ms = 0;
    check(cudaEventSynchronize(event_), "the end of a loop");
    check(cudaEventElapsedTime(&ms, start.event_, event_), "the time of a loop");
    return double(ms) * 1e-3;
  }

 private:
  cudaEvent_t event_;
};

// Of one call: the median over rounds, after some to warm up.
double median_seconds(const std::function<void()>& job) {
  constexpr int kWarmUp = 3, kRounds = 15, kCalls = 10;
  std::vector<double> seconds;
  for (int round = 0; round < kWarmUp + kRounds; round++) {
    Event start, end;
    start.record();
    for (int call = 0; call < kCalls; call++) job();
    end.record();
    const double s = end.seconds_since(start) / kCalls;
    if (round >= kWarmUp) seconds.push_back(s);
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

template <class T>
struct Fill {  // numbers in [-scale, scale)
  T scale;
  TW_HD T operator()(int64_t i) const { return scale * T(int32_t(uint32_t(i) * 2654435769u)) * T(0x1p-31); }
};
template <class T>
class Array {
 public:
  Array(int64_t n, double scale) : memory_(n * int64_t(sizeof(T))) { fill(n, View<T>(p()), Fill<T>{T(scale)}); }
  T* p() const { return reinterpret_cast<T*>(memory_.data()); }

 private:
  DeviceMemory memory_;
};

template <class T>
struct Gelu {
  View<T> x;
  TW_HD T operator()(int64_t i) const { return gelu(x[i]); }
};
template <class T>
struct GeluBackward {
  View<T> d_y, x;
  TW_HD T operator()(int64_t i) const { return gelu_backward(d_y[i], x[i]); }
};
template <class T>
struct Copy {
  View<T> x;
  TW_HD T operator()(int64_t i) const { return x[i]; }
};

template <class T>
void run(const char* type, int64_t n) {
  Array<T> w(n, 1), g(n, 1), m(n, 1e-3), s(n, 0);
  const View<T> wv(w.p()), gv(g.p()), mv(m.p());
  const double plane = double(n) * sizeof(T);
  const double copy =
      median_seconds([&] { check(cudaMemcpyAsync(m.p(), w.p(), size_t(plane), cudaMemcpyDeviceToDevice), "a copy"); });
  const double copy_rate = 2 * plane / copy;
  auto line = [&](const char* name, int streams, const std::function<void()>& job) {
    const double seconds = median_seconds(job), rate = streams * plane / seconds;
    std::printf("  %-16s %8.3f ms  %7.1f GB/s  %5.1f %% of copy\n", name, seconds * 1e3, rate / 1e9,
                100 * rate / copy_rate);
  };
  std::printf("%ld elements of %s, copy %.3f ms, %.1f GB/s\n", long(n), type, copy * 1e3, copy_rate / 1e9);
  line("copying loop", 2, [&] { fill(n, mv, Copy<T>{wv}); });
  line("gelu", 2, [&] { fill(n, mv, Gelu<T>{wv}); });
  line("gelu backward", 3, [&] { fill(n, mv, GeluBackward<T>{gv, wv}); });
  const Update u{{Rule::adam}, false, 1000};
  const Rates rates{.lr = 1e-6, .eps = 1e-3};
  const UpdateElement<T, Adam<T>> element{
      {w.p(), m.p(), s.p()}, g.p(), gradient_rates<T>(u, rates, {0, n, 0}), {adam_rates<T>(u, rates)}};
  line("Adam", 7, [&] { for_each(n, element); });
  check(cudaDeviceSynchronize(), "the last loop");
}

}  // namespace

void run_all(int64_t n) {
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, 0), "the properties of device 0");
  std::printf("%s\n", p.name);
  run<float>("float32", n);
  run<double>("float64", n);
}

}  // namespace thalweg

int main(int argc, char** argv) try {
  thalweg::run_all(argc > 1 ? std::atoll(argv[1]) : int64_t(64) << 20);
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
