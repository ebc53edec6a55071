// update.cpp: the optimizer's pass over the flat arenas: each rule's formula (formula/optimizer.h) on every element of
// the segments, in one vectorised loop. Tasks are fixed stretches of the arena; the gradient is only read.
#include "update.h"

#include "../exec/for_each.h"
#include "../formula/optimizer.h"
#include "../tensor/arena.h"

namespace thalweg {

namespace {

template <class T>
struct Arenas {
  T* w;
  const T* g;
  T* state;
  int64_t stride;
  int64_t end;  // of all segments
};
// One element's place; `first` and `second` are its states, in the order in which they are listed below.
template <class T>
struct Place {
  T* __restrict__ w;
  T* __restrict__ first;
  T* __restrict__ second;
};

// What binds a formula to its arrays: element i with decayed weight w and gradient g.
template <class T>
struct Sgd {
  static constexpr int kStates = 0;
  T lr;
  TW_HD void operator()(int64_t i, T w, T g, const Place<T>& to) const { to.w[i] = sgd(Weight<T>{w}, g, lr).w; }
};
enum class MomentumForm { plain, nesterov, ball };
template <class T, MomentumForm form>
struct Momentum {  // first: v or u
  static constexpr int kStates = 1;
  MomentumRates<T> rates;
  TW_HD void operator()(int64_t i, T w, T g, const Place<T>& to) const {
    const MomentumState<T> x{w, to.first[i]};
    const MomentumState<T> y = form == MomentumForm::plain      ? sgd_momentum(x, g, rates)
                               : form == MomentumForm::nesterov ? sgd_nesterov(x, g, rates)
                                                                : heavy_ball(x, g, rates);
    to.w[i] = y.w, to.first[i] = y.v;
  }
};
template <class T>
struct Squares {  // first: s
  static constexpr int kStates = 1;
  SquaresRates<T> rates;
  TW_HD void operator()(int64_t i, T w, T g, const Place<T>& to) const {
    const SquaresState<T> y = rmsprop(SquaresState<T>{w, to.first[i]}, g, rates);
    to.w[i] = y.w, to.first[i] = y.s;
  }
};
template <class T>
struct SquaresMomentum {  // first: s, second: v
  static constexpr int kStates = 2;
  SquaresRates<T> rates;
  T momentum;
  TW_HD void operator()(int64_t i, T w, T g, const Place<T>& to) const {
    const MomentsState<T> y = rmsprop_momentum(MomentsState<T>{w, to.second[i], to.first[i]}, g, rates, momentum);
    to.w[i] = y.w, to.first[i] = y.s, to.second[i] = y.m;
  }
};
template <class T>
struct Adam {  // first: m, second: s
  static constexpr int kStates = 2;
  AdamRates<T> rates;
  TW_HD void operator()(int64_t i, T w, T g, const Place<T>& to) const {
    const MomentsState<T> y = adam(MomentsState<T>{w, to.first[i], to.second[i]}, g, rates);
    to.w[i] = y.w, to.first[i] = y.m, to.second[i] = y.s;
  }
};

// Roots and quotients fill the processor's window, so that it does not see the next loads in time.
constexpr int64_t kAheadBytes = 2 << 10;
template <int kStates, class T>
TW_HD void fetch(const Place<T>& to, const T* g, int64_t begin, int64_t count) {
  for (int64_t i = begin; i < begin + count; i += kAlign / int64_t(sizeof(T))) {
    __builtin_prefetch(to.w + i, 1, 2);
    __builtin_prefetch(g + i, 0, 2);
    if (kStates > 0) __builtin_prefetch(to.first + i, 1, 2);
    if (kStates > 1) __builtin_prefetch(to.second + i, 1, 2);
  }
}

template <class T, class F>
void update_run(const Arenas<T>& a, GradientRates<T> rates, int64_t begin, int64_t end, F formula) {
  const Place<T> to{a.w, a.state, a.state ? a.state + a.stride : nullptr};
  const T* __restrict__ g = a.g;
  auto one = [&](int64_t i) { formula(i, rates.shrink * to.w[i], gradient(g[i], to.w[i], rates), to); };
  constexpr int64_t kRun = 64;  // a fixed count: the compiler unrolls it, and roots overlap with the next loads
  constexpr int64_t kAhead = kAheadBytes / int64_t(sizeof(T));
  int64_t i = begin;
  for (; i + kRun <= end; i += kRun) {
    if (i + kAhead < a.end) fetch<F::kStates>(to, g, i + kAhead, kRun);
#pragma omp simd
    for (int64_t k = 0; k < kRun; k++) one(i + k);
  }
#pragma omp simd
  for (int64_t k = i; k < end; k++) one(k);
}

template <class T>
GradientRates<T> gradient_rates(const Update& u, const Rates& r, const Segment& s) {
  const T limit = u.clip_value > 0 ? T(u.clip_value) : Format<T>::kInf;
  const bool decoupled = u.rule.decoupled;
  return {T(u.grad_scale * s.scale), limit, T(decoupled ? 0 : r.weight_decay),
          T(decoupled ? 1 - r.lr * r.weight_decay : 1)};
}
template <class T>
Eps<T> eps_of(const Update& u, const Rates& r) {
  return u.rule.eps_inside ? Eps<T>{T(r.eps), T(0)} : Eps<T>{T(0), T(r.eps)};
}
template <class T>
MomentumRates<T> momentum_rates(const Update& u, const Rates& r) {
  const double gain = u.rule.rule == Rule::duda         ? 1 - r.momentum
                      : u.rule.rule == Rule::heavy_ball ? 1
                                                        : (u.t == 1 ? 1 : 1 - r.dampening);
  return {T(r.lr), T(r.momentum), T(gain)};
}
template <class T>
SquaresRates<T> squares_rates(const Update& u, const Rates& r) {
  const bool sum = u.rule.rule == Rule::adagrad;
  return {T(r.lr), T(sum ? 1 : r.decay), T(sum ? 1 : 1 - r.decay), eps_of<T>(u, r)};
}
template <class T>
AdamRates<T> adam_rates(const Update& u, const Rates& r) {
  const double t = double(u.t), one = u.rule.bias_correction ? bias_correction(r.beta1, t) : 1;
  const double two = u.rule.bias_correction ? bias_correction(r.beta2, t) : 1;
  return {T(r.lr * one), T(r.beta1), T(1 - r.beta1), T(r.beta2), T(1 - r.beta2), T(two), eps_of<T>(u, r)};
}

// run(functor) with the rule's functor and the rates of one group.
template <class T, class Run>
void with_formula(const Update& u, const Rates& r, Run run) {
  switch (u.rule.rule) {
    case Rule::sgd:
      if (!u.has_momentum) return run(Sgd<T>{T(r.lr)});
      if (u.rule.nesterov) return run(Momentum<T, MomentumForm::nesterov>{momentum_rates<T>(u, r)});
      return run(Momentum<T, MomentumForm::plain>{momentum_rates<T>(u, r)});
    case Rule::heavy_ball:
    case Rule::duda: return run(Momentum<T, MomentumForm::ball>{momentum_rates<T>(u, r)});
    case Rule::rmsprop:
      if (u.has_momentum) return run(SquaresMomentum<T>{squares_rates<T>(u, r), T(r.momentum)});
      [[fallthrough]];
    case Rule::adagrad: return run(Squares<T>{squares_rates<T>(u, r)});
    case Rule::adam: return run(Adam<T>{adam_rates<T>(u, r)});
  }
}

template <class T>
void update_all(const Exec& exec, const Update& u, std::span<const Rates> rates, std::span<const Segment> segments,
                Arenas<T> arenas) {
  int64_t from = arenas.stride, to = 0;
  for (const Segment& s : segments) from = std::min(from, s.begin), to = std::max(to, s.end);
  if (from >= to) return;
  arenas.end = to;
  // Tasks begin where w fills whole cache lines: arrays of a caller's own need not be aligned.
  const int64_t before = int64_t(reinterpret_cast<uintptr_t>(arenas.w + from) % kAlign / sizeof(T)),
                base = from - before;
  const int64_t tasks = (to - base + kElementsPerTask - 1) / kElementsPerTask;
  exec.parallel(tasks, double(to - from) * 0.5, [&](int64_t task, int) {
    const int64_t begin = std::max(from, base + task * kElementsPerTask), end = base + (task + 1) * kElementsPerTask;
    for (const Segment& s : segments) {
      const int64_t first = std::max(begin, s.begin), last = std::min(end, s.end);
      if (first >= last) continue;
      const Rates& r = rates[size_t(s.group)];
      with_formula<T>(u, r,
                      [&](auto formula) { update_run(arenas, gradient_rates<T>(u, r, s), first, last, formula); });
    }
  });
}

}  // namespace

void update(const Exec& exec, DType t, const Update& u, std::span<const Rates> rates, std::span<const Segment> segments,
            std::byte* w, const std::byte* g, std::byte* state, int64_t stride) {
  auto run = [&]<class T>(T) {
    update_all<T>(exec, u, rates, segments,
                  {reinterpret_cast<T*>(w), reinterpret_cast<const T*>(g), reinterpret_cast<T*>(state), stride, 0});
  };
  t == DType::f32 ? run(float{}) : run(double{});
}

}  // namespace thalweg
