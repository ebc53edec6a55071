// batch_norm_common.h: what training and inference of batch norm share: the constants of a channel, and the activation
// that the same pass may apply.
#pragma once
#include "../exec/reduce.h"
#include "../formula/activation.h"
#include "../formula/batch_norm.h"
#include "../formula/moments.h"
#include "channel_rows.h"
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
    const auto k = per_channel<N, 4>(l.exec, r.channels, stored, [&](int64_t c) {
      return std::array<N, 4>{channel.mean[c], channel.inv_std(c), scale.gamma(c), scale.beta(c)};
    });
    fill_channels<N, 1, 4>(l, r.rows, r.channels, {{l.in[0]}, stored}, k, [=](const auto& in) {
      return [=, x = in[0]](int64_t i, const std::array<N, 4>& k) {
        return Activation::forward(affine(normalize(x[i], k[0], k[1]), k[2], k[3]));
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
