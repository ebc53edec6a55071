// formulas_scalar.cpp: what is computed in double once a step or once a run, by name: schedules, initial deviations,
// Philox.
#include "../formula/init.h"
#include "../formula/random.h"
#include "../formula/schedule.h"
#include "formulas.h"

namespace thalweg {
namespace {

template <size_t count, class F>
Formula real(const char* name, F) {
  return entry<count>(name,
                      [](auto... x) { return RealOf<std::common_type_t<decltype(x)...>>(F{}(double(value(x))...)); });
}
template <class F>
Formula philox_entry(const char* name, F) {
  return real<6>(name, [](auto k0, auto k1, auto... c) {
    return F{}(philox(PhiloxKey{uint32_t(k0), uint32_t(k1)}, Random4{uint32_t(c)...}));
  });
}

}  // namespace

std::vector<Formula> scalar_formulas() {
  return {
      real<3>("step_factor", [](auto... x) { return step_factor(x...); }),
      real<3>("cosine_factor", [](auto... x) { return cosine_factor(x...); }),
      real<5>("one_cycle_factor", [](auto... x) { return one_cycle_factor(x...); }),
      real<2>("warmup_factor", [](auto... x) { return warmup_factor(x...); }),
      real<2>("inverse_time_factor", [](auto... x) { return inverse_time_factor(x...); }),
      real<2>("scaled_std", [](auto... x) { return scaled_std(x...); }),
      real<1>("uniform_bound", [](auto x) { return uniform_bound(x); }),
      philox_entry("philox_0", [](Random4 x) { return double(x.a); }),
      philox_entry("philox_1", [](Random4 x) { return double(x.b); }),
      philox_entry("philox_2", [](Random4 x) { return double(x.c); }),
      philox_entry("philox_3", [](Random4 x) { return double(x.d); }),
      philox_entry("random_uniform", [](Random4 x) { return uniform<double>(x); }),
      philox_entry("random_normal", [](Random4 x) { return normal(x); }),
      real<2>("random_key_0",
              [](auto seed, auto stream) { return double(random_key(uint64_t(seed), uint64_t(stream)).k0); }),
      real<2>("random_key_1",
              [](auto seed, auto stream) { return double(random_key(uint64_t(seed), uint64_t(stream)).k1); }),
  };
}

}  // namespace thalweg
