// formulas_scalar.h: what is computed in double once a step or once a run, by name: schedules, initial deviations,
// Philox.
#pragma once
#include "../formula/init.h"
#include "../formula/random.h"
#include "../formula/schedule.h"
#include "formulas.h"

namespace thalweg {

// f of the words that Philox makes of a key and a counter.
template <class F>
struct OfPhilox {
  F f;
  template <class... C>
  TW_HD double operator()(double k0, double k1, C... c) const {
    return f(philox(PhiloxKey{uint32_t(k0), uint32_t(k1)}, Random4{uint32_t(c)...}));
  }
};
template <class Table, class F>
void add_philox(Table& table, const char* name, F f) {
  table.template add_real<6>(name, OfPhilox<F>{f});
}

template <class Table>
void add_scalar(Table& table) {
  table.template add_real<3>("step_factor", TW_FORMULA(auto... x) { return step_factor(x...); });
  table.template add_real<3>("cosine_factor", TW_FORMULA(auto... x) { return cosine_factor(x...); });
  table.template add_real<5>("one_cycle_factor", TW_FORMULA(auto... x) { return one_cycle_factor(x...); });
  table.template add_real<2>("warmup_factor", TW_FORMULA(auto... x) { return warmup_factor(x...); });
  table.template add_real<2>("inverse_time_factor", TW_FORMULA(auto... x) { return inverse_time_factor(x...); });
  table.template add_real<2>("scaled_std", TW_FORMULA(auto... x) { return scaled_std(x...); });
  table.template add_real<1>("uniform_bound", TW_FORMULA(auto x) { return uniform_bound(x); });
  add_philox(table, "philox_0", TW_FORMULA(Random4 x) { return double(x.a); });
  add_philox(table, "philox_1", TW_FORMULA(Random4 x) { return double(x.b); });
  add_philox(table, "philox_2", TW_FORMULA(Random4 x) { return double(x.c); });
  add_philox(table, "philox_3", TW_FORMULA(Random4 x) { return double(x.d); });
  add_philox(table, "random_uniform", TW_FORMULA(Random4 x) { return uniform<double>(x); });
  add_philox(table, "random_normal", TW_FORMULA(Random4 x) { return normal(x); });
  table.template add_real<2>(
      "random_key_0",
      TW_FORMULA(auto seed, auto stream) { return double(random_key(uint64_t(seed), uint64_t(stream)).k0); });
  table.template add_real<2>(
      "random_key_1",
      TW_FORMULA(auto seed, auto stream) { return double(random_key(uint64_t(seed), uint64_t(stream)).k1); });
}

}  // namespace thalweg
