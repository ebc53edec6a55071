// softmax.h: what softmax and the losses over classes do to each row first.
#pragma once
#include "../formula/loss.h"
#include "row_tile.h"

namespace thalweg {

// Per row: the largest element, the sum of e^(z - max), and in y, where it is given, the e^(z - max) themselves.
template <class N, class Rows>
void softmax_sums(const Rows& rows, View<N> z, View<N> max, View<N> sum) {
  rows.template fold<N>([=](int64_t i, int64_t, int64_t) { return z[i]; }, max, Max{});
  rows.template fold<N>([=](int64_t i, int64_t row, int64_t) { return exp(z[i] - max[row]); }, sum);
}
template <class N, class Rows>
void softmax_sums(const Rows& rows, View<N> z, View<N> max, View<N> sum, View<N> y) {
  rows.template fold<N>([=](int64_t i, int64_t, int64_t) { return z[i]; }, max, Max{});
  rows.each([=](int64_t i, int64_t row, int64_t) { y.set(i, exp(z[i] - max[row])); });
  rows.template fold<N>([=](int64_t i, int64_t, int64_t) { return y[i]; }, sum);
}

}  // namespace thalweg
