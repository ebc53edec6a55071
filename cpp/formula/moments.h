// moments.h: count, mean and sum of squared deviations, merged; the monoid of lanes, blocks, shards and ranks.
//   n = n_a + n_b;  mean = (mean_a + mean_b) / 2 + (mean_b - mean_a) (n_b - n_a) / 2n
//   m2 = m2_a + m2_b + (mean_b - mean_a)^2 n_a n_b / n
// merge(a, b) and merge(b, a) are equal bit for bit (mean_a + (mean_b - mean_a) n_b / n is not), no digit is lost far
// from 0 (n_a mean_a + n_b mean_b loses some), and merging with nothing (n = 0) changes no bit. Never E[x^2] - E[x]^2,
// which cancels.
// Source: Chan, Golub & LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances.
#pragma once
#include "number.h"

namespace thalweg {

template <class N>
struct Moments {
  N mean{}, m2{};  // m2: sum of (x - mean)^2
  RealOf<N> n{};
};

template <class N>
TW_HD Moments<N> merge(Moments<N> a, Moments<N> b) {
  using T = RealOf<N>;
  const T n = a.n + b.n, inverse = T(1) / select(n > T(0), n, T(1));
  const N mean = T(0.5) * (a.mean + b.mean) + (b.mean - a.mean) * (T(0.5) * (b.n - a.n) * inverse);
  const N m2 = (a.m2 + b.m2) + square(b.mean - a.mean) * (a.n * b.n * inverse);
  const bool no_a = a.n == T(0), no_b = b.n == T(0);
  return {select(no_b, a.mean, select(no_a, b.mean, mean)), select(no_b, a.m2, select(no_a, b.m2, m2)), n};
}

// The mean of n values from the sum of their distances to one of them: its error is that of the spread, however far
// from 0 they lie.
template <class N>
TW_HD N shifted_mean(N one, N distances, RealOf<N> n) {
  return one + distances / n;
}

// Of all n values / the unbiased estimate; n = 0 (or 1) gives NaN.
template <class N>
TW_HD N variance(Moments<N> m) {
  return m.m2 / m.n;
}
template <class N>
TW_HD N unbiased_variance(Moments<N> m) {
  return m.m2 / (m.n - RealOf<N>(1));
}

}  // namespace thalweg
