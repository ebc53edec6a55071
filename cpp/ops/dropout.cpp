// dropout.cpp: zero each element with probability p and scale the others by 1 / (1 - p), in one pass.
// The mask is a function of (seed, step, layer path, row in the global batch, index in the row): nothing is saved, and
// the gradient is this very operator, run on d_y under the path of the forward node.
// Shapes: x, y alike; axis 0 is the row. Attribute: p in [0, 1].
#include "../formula/dropout.h"

#include "../exec/stored.h"
#include "common.h"
#include "register.h"

namespace thalweg {
namespace {

constexpr int64_t kCounters = 16, kBlock = 4 * kCounters;  // elements that sixteen counters serve

TW_HD void random_block(PhiloxKey key, uint64_t row, uint64_t counter, uint32_t* bits) {
#pragma omp simd
  for (int64_t i = 0; i < kCounters; i++) {
    const Random4 r = philox(key, row, counter + uint64_t(i));
    bits[i] = r.a, bits[kCounters + i] = r.b, bits[2 * kCounters + i] = r.c, bits[3 * kCounters + i] = r.d;
  }
}

// Elements [begin, end) of a row, begin a multiple of kBlock; x and y from element 0 on.
template <class N>
void drop_row(PhiloxKey key, uint64_t row, int64_t begin, int64_t end, DropoutRates rates, View<N> x, View<N> y) {
  alignas(64) uint32_t bits[kBlock];
  const RealOf<N> scale = RealOf<N>(rates.scale);
  for (int64_t i = begin; i < end; i += kBlock) {
    random_block(key, row, uint64_t(i / kBlock * kCounters), bits);
    const View<N> from = x.at(i), to = y.at(i);
    const int64_t count = std::min(kBlock, end - i);
#pragma omp simd
    for (int64_t j = 0; j < count; j++) to.set(j, dropout(from[j], bits[j], rates.threshold, scale));
  }
}

// A row that is stored as bf16, as is what becomes of it.
void drop_stored_row(PhiloxKey key, uint64_t row, int64_t width, DropoutRates rates, const Bf16* x, Bf16* y) {
  alignas(64) float memory[kStoredPart];
  for (int64_t i = 0; i < width; i += kStoredPart) {
    const int64_t n = std::min(kStoredPart, width - i);
    load_stored(x + i, n, memory);
    const View<float> part(memory - i);
    drop_row<float>(key, row, i, i + n, rates, part, part);
    store_stored(memory, n, y + i);
  }
}

Kernel kernel(const Site& s) {
  const Shape& x = s.in[0].shape;
  const int64_t rows = x.rank() ? x[0] : 1, width = x.rank() ? x.product(1, x.rank()) : 1;
  const DropoutRates rates = dropout_rates(s.attrs.real("p"));
  const bool stored = s.in[0].kind == Kind::bf16;
  return with_number(s.number, [&, path = s.path_key, batched = s.in[0].batched()](auto zero) -> Kernel {
    using N = decltype(zero);
    return [=](const Launch& l) {
      const PhiloxKey key = random_key(l.step.seed, path, l.step.step);
      const int64_t row0 = batched ? l.step.row0 : 0;
      const View<N> from(l.in[0]), to(l.out[0]);
      l.exec.parallel(rows, 0.7 * double(rows) * double(width), [&](int64_t row, int) {
        const uint64_t at = uint64_t(row0 + row);
        if (stored) {
          drop_stored_row(key, at, width, rates, l.in[0].as<Bf16>() + row * width, l.out[0].as<Bf16>() + row * width);
        } else {
          drop_row<N>(key, at, 0, width, rates, from.at(row * width), to.at(row * width));
        }
      });
    };
  });
}

std::vector<Type> infer(const Inputs& in) {
  const double p = in.attrs.real("p");
  check(p >= 0 && p <= 1, in, "p is ", p, ", expected 0 to 1");
  return infer_same(in);
}

std::vector<Value> backward(Recorder& r, const Applied& n, std::span<const Value> d_out) {
  return {r.apply("dropout", {d_out[0]}, n.attrs)};
}

Cost cost(const Site& s) { return moved_bytes(s, 2 * double(s.in[0].shape.size())); }

}  // namespace

void register_dropout(Registry& r) {
  r.add({.name = "dropout",
         .infer = infer,
         .kernel = kernel,
         .backward = backward,
         .cost = cost,
         .inplace = 1,
         .bf16_in = 1,
         .bf16_out = 1});
}

}  // namespace thalweg
