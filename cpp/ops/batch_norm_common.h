// batch_norm_common.h: what training and inference of batch norm share: the loop over (rows, channels), the constants
// of a channel, and the activation that the same pass may apply.
#pragma once
#include "../exec/reduce.h"
#include "../exec/stored.h"
#include "../formula/activation.h"
#include "../formula/batch_norm.h"
#include "../formula/moments.h"
#include "norm.h"

namespace thalweg::batch_norm {

struct Rows {
  int64_t rows, channels, inner;  // matrix rows of this rank, matrix rows of one batch row
  int64_t count;                  // matrix rows of all ranks; with {sync: "rank"} of this one
};

inline Rows rows_of(const Site& s, const Type& x) {
  Rows r{x.shape.rows(), x.shape.back(), x.shape.product(1, x.shape.rank() - 1), 0};
  r.count = x.batched() && !s.attrs.has(kSync) ? s.rows_global * r.inner : r.rows;
  return r;
}

inline bool is_stored(const Type& x) { return x.kind == Kind::bf16; }

inline Columns columns_of(const Site& s, const Type& x) {
  return columns(row_blocks(s.cut(x), x.shape.product(1, x.shape.rank() - 1)), x.shape.back());
}

// Rows that are treated as one, so that the inner loop is long: the constants of the channels repeat as often.
inline int64_t rows_joined(int64_t channels) { return std::max<int64_t>(1, 512 / std::max<int64_t>(1, channels)); }

// K constants of every channel, repeated.
template <class N, int K, class F>
State<N, K> per_channel(const Exec& exec, int64_t channels, F constants) {
  const int64_t width = channels * rows_joined(channels);
  const State<N, K> k = state_at<N, K>(exec.scratch<RealOf<N>>(0, Slot::shared_pack, K * kPlanes<N> * width), width);
  for (int64_t c = 0; c < channels; c++) {
    const std::array<N, K> x = constants(c);
    for (int i = 0; i < K; i++)
      for (int64_t j = c; j < width; j += channels) k[i].set(j, x[i]);
  }
  return k;
}

// The rows of a part whose result is stored as bf16.
template <class F>
void fill_stored_rows(Bf16* to, int64_t row, int64_t end, int64_t width, const F& f) {
  alignas(64) float made[kStoredPart];
  const int64_t part = std::min(width, kStoredPart);
  for (; row < end; row++)
    for (int64_t j = 0; j < width; j += part) {
      const int64_t n = std::min(part, width - j), begin = row * width + j;
      fill_row(Result<float>{View<float>(made - begin)}, row, width, j, j + n, f);
      store_stored(made, n, to + begin);
    }
}

// y[i] = f(i, j) for every element i of output 0, a (rows, channels) matrix, j its place among the repeated channels;
// f = body(in), `in` being views of what is read.
template <class N, int K, class Body>
void fill_channels(const Launch& l, int64_t rows, int64_t channels, const Operands<N, K>& in, const Body& body) {
  const int64_t joined = rows_joined(channels), width = joined * channels, whole = rows / joined;
  const int64_t rest = (rows - whole * joined) * channels;
  const Follow follow = l.follow();
  auto after = [&](int64_t begin, int64_t n) {
    if (follow) follow({begin, 0, 1, n});
  };
  in.read([&]<class S>(const std::array<View<S>, K>& views) {
    const auto f = body(views);
    if constexpr (std::is_same_v<S, Bf16>) {
      Bf16* const to = l.out[0].as<Bf16>();
      const int64_t rows_per_task = std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, width));
      l.exec.parallel((whole + rows_per_task - 1) / rows_per_task, double(rows) * double(channels) * 0.4,
                      [&](int64_t task, int) {
                        const int64_t row = task * rows_per_task, end = std::min(whole, row + rows_per_task);
                        fill_stored_rows(to, row, end, width, f);
                        after(row * width, (end - row) * width);
                      });
      for (int64_t j = 0; j < rest; j++) to[whole * width + j] = to_bf16(f(whole * width + j, j));
    } else {
      Result<N> to = result<N>(l, rows * channels, K);
      if (follow) to.far = false;
      fill_rows(l.exec, whole, width, to, f, 0.4, after);
      for (int64_t j = 0; j < rest; j++) to.y.set(whole * width + j, f(whole * width + j, j));
    }
  });
  after(whole * width, rest);
}

// The activation that follows: v -> y, and d_y -> d_v from v.
struct Linear {
  template <class N>
  static TW_HD N forward(N v) {
    return v;
  }
  template <class N>
  static TW_HD N backward(N d_y, N) {
    return d_y;
  }
};
struct Relu {
  template <class N>
  static TW_HD N forward(N v) {
    return relu(v);
  }
  template <class N>
  static TW_HD N backward(N d_y, N v) {
    return relu_backward(d_y, v);
  }
};

inline constexpr char kActivation[] = "activation";
template <class F>
Kernel with_types(const Site& s, F f) {  // f(number, activation)
  const bool relu = s.attrs.text(kActivation, "") == "relu";
  return with_number(s.number, [&](auto zero) -> Kernel {
    if constexpr (!kIsDual<decltype(zero)>) {
      if (relu) return f(zero, Relu{});
    } else if (relu) {
      fail("[batch_norm] an activation is joined to plain numbers only, not to duals");
    }
    return f(zero, Linear{});
  });
}

// gamma and beta, where there are any.
template <class N>
struct Affine {
  const Buffer* at;  // null: 1 and 0
  N gamma(int64_t c) const { return at ? View<N>(at[0])[c] : N(1); }
  N beta(int64_t c) const { return at ? View<N>(at[1])[c] : N(0); }
};

// mean, inv_std of channel c, from moments or from running statistics.
template <class N>
struct Channel {
  View<N> mean, second;
  RealOf<N> count, eps;  // count 0: `second` is the variance itself
  TW_HD N inv_std(int64_t c) const {
    return thalweg::inv_std(count > 0 ? variance(Moments<N>{mean[c], second[c], count}) : second[c], eps);
  }
};

template <class N, class Activation>
Kernel normalise_kernel(const Rows& r, bool stored, double eps, bool is_running, bool has_affine) {
  return [=](const Launch& l) {
    using T = RealOf<N>;
    const View<N> stats(l.in[1]);
    const Channel<N> channel{stats, is_running ? View<N>(l.in[2]) : stats.at(r.channels), T(is_running ? 0 : r.count),
                             T(eps)};
    const Affine<N> scale{has_affine ? l.in + (is_running ? 3 : 2) : nullptr};
    const auto k = per_channel<N, 4>(l.exec, r.channels, [&](int64_t c) {
      return std::array<N, 4>{channel.mean[c], channel.inv_std(c), scale.gamma(c), scale.beta(c)};
    });
    fill_channels<N, 1>(l, r.rows, r.channels, {{l.in[0]}, stored}, [=](const auto& in) {
      return [=, x = in[0]](int64_t i, int64_t j) {
        return Activation::forward(affine(normalize(x[i], k[0][j], k[1][j]), k[2][j], k[3][j]));
      };
    });
  };
}

// ---- checks ----

inline void need_two(int64_t count, const char* where) {
  if (count < 2) fail(where, "needs at least 2 values per channel to train, got ", count);
}

inline void check_x(const Inputs& in, size_t i, const char* name) {
  check_real(in, i, name);
  check_rank(in, i, name, 2);
}

inline void check_stats(const Inputs& in, size_t i, const char* name, const Shape& x) {
  check_real(in, i, name);
  check_shape(in, i, name, {2, x.back()}, text("2 rows of the channels of x ", x).c_str());
  check_replicated(in, i, name);
}

inline void check_activation(const Inputs& in) {
  const std::string activation = in.attrs.text(kActivation, "");
  check(activation.empty() || activation == "relu", in, "activation is '", activation, "', expected 'relu' or none");
}

inline Cost cost_of(const Site& s) { return moved_bytes(s, 6 * double(s.in[0].shape.size())); }

}  // namespace thalweg::batch_norm
