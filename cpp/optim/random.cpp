#include "random.h"

#include "../exec/for_each.h"
#include "../formula/random.h"
#include "../tensor/error.h"

namespace thalweg {
namespace {

// Draws again until |x| <= 2: 32 draws fail together with probability 1e-43; then 0.
double truncated_normal(PhiloxKey key, uint64_t i) {
  for (uint64_t draw = 0; draw < 32; draw++) {
    const double x = normal(philox(key, i, draw));
    if (abs(x) <= 2.0) return x;
  }
  return 0;
}

template <class T, class F>
void fill(const Exec& exec, std::byte* out, int64_t n, F f) {
  for_each(exec, n, [to = reinterpret_cast<T*>(out), f](int64_t i) { to[i] = T(f(uint64_t(i))); }, 10.0);
}

template <class T>
void fill_typed(const Exec& exec, const std::string& name, double a, double b, PhiloxKey key, std::byte* out,
                int64_t n) {
  if (name == "normal") return fill<T>(exec, out, n, [=](uint64_t i) { return a + b * normal(philox(key, i, 0)); });
  if (name == "uniform") {
    return fill<T>(exec, out, n, [=](uint64_t i) {
      const Random4 x = philox(key, i, 0);
      return a + (b - a) * uniform_double(x.a, x.b);
    });
  }
  if (name == "truncated_normal")
    return fill<T>(exec, out, n, [=](uint64_t i) { return a + b * truncated_normal(key, i); });
  fail("there is no distribution '", name, "'; expected normal, uniform or truncated_normal");
}

// A number below `bound`, each equally likely: the high half of a product, drawn again in the few biased cases.
// Source: Lemire 2019, Fast random integer generation in an interval, arXiv:1805.10941.
uint64_t below(uint64_t bound, PhiloxKey key, uint64_t place) {
  const uint64_t least = (0 - bound) % bound;
  for (uint64_t draw = 0;; draw++) {
    const Random4 x = philox(key, place, draw);
    const auto product = static_cast<unsigned __int128>(uint64_t(x.a) << 32 | x.b) * bound;
    if (uint64_t(product) >= least) return uint64_t(product >> 64);
  }
}

}  // namespace

void fill_random(const Exec& exec, DType t, const std::string& distribution, double a, double b, uint64_t seed,
                 uint64_t stream, std::byte* out, int64_t n) {
  const PhiloxKey key = random_key(seed, stream);
  if (t == DType::f32) fill_typed<float>(exec, distribution, a, b, key, out, n);
  else fill_typed<double>(exec, distribution, a, b, key, out, n);
}

void permutation(uint64_t seed, uint64_t stream, int64_t* out, int64_t n) {
  const PhiloxKey key = random_key(seed, stream);
  for (int64_t i = 0; i < n; i++) out[i] = i;
  for (int64_t i = n - 1; i > 0; i--) std::swap(out[i], out[below(uint64_t(i) + 1, key, uint64_t(i))]);
}

}  // namespace thalweg
