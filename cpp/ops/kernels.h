// kernels.h: the door of a kernel library. The floors formula, exec, ops and optim are compiled once per instruction
// set into a shared object of its own (two copies of one template in one library would be merged by the linker and
// crash on the older machine); each exports thalweg_kernels() and nothing else. plan/isa.h picks one at run time.
#pragma once
#include "../exec/conv_bf16.h"
#include "../optim/update.h"
#include "operator.h"

namespace thalweg {

// Products of bf16 operands that are stored as X.
template <class X>
struct ProductsBf16 {
  decltype(&thalweg::matmul_bf16_weight<X, X>) matmul;
  decltype(&thalweg::matmul_fold_bf16<X>) matmul_fold;
  decltype(&thalweg::conv_forward_bf16<X, X>) conv_forward;
  decltype(&thalweg::conv_backward_input_bf16<X, X>) conv_backward_input;
  decltype(&thalweg::conv_backward_weight_bf16<X>) conv_backward_weight;
};

struct Kernels {
  const char* isa;  // "avx512", "avx2", "generic"
  Registry operators;
  UpdateFn update;
  // Sum of squares of n elements in the fixed tree (block sums in double).
  double (*sum_of_squares)(const Exec&, DType, const std::byte* x, int64_t n);
  void (*squares_of_blocks)(const Exec&, DType, const std::byte* x, int64_t n, double* sums);
  double (*fold_blocks)(const double* sums, int64_t n);
  void (*add)(const Exec&, DType, std::byte* into, const std::byte* from, int64_t n);    // into += from
  int64_t (*first_non_finite)(const Exec&, DType, Kind, const std::byte* x, int64_t n);  // -1: all finite
  // Merge two ranks' values: elements [begin, end) of sums, or moments (2, C) over n_into and n_from rows.
  void (*merge_sums)(DType, std::byte* into, const std::byte* from, int64_t begin, int64_t end);
  void (*merge_moments)(DType, std::byte* into, double n_into, const std::byte* from, double n_from, int64_t channels);
  // Random numbers, seeded: the initial values of parameters and the order of an epoch.
  void (*fill_random)(const Exec&, DType, const std::string& distribution, double a, double b, uint64_t seed,
                      uint64_t stream, std::byte* out, int64_t n);
  void (*permutation)(uint64_t seed, uint64_t stream, int64_t* out, int64_t n);
  // A formula by name on arrays, for the tests: out = f(args...). `dual` arguments are (value, tangent) planes.
  bool (*formula)(const std::string& name, Number, std::span<const Buffer> in, Buffer out, int64_t n);
  std::vector<std::pair<std::string, size_t>> (*formula_names)();  // with their numbers of arguments
  // Products for the native benchmarks.
  void (*matmul_f32)(const Exec&, const Matmul&, const float*, const float*, const float*, float*, const Follow&);
  void (*matmul_fold_f32)(const Exec&, const Matmul&, const Shards&, const float*, const float*, float*);
  void (*conv_forward_f32)(const Exec&, const Conv&, const float*, const float*, const float*, float*, bool,
                           const Follow&);
  void (*conv_backward_input_f32)(const Exec&, const Conv&, const float*, const float*, float*, bool, const Follow&);
  void (*conv_backward_weight_f32)(const Exec&, const Conv&, const Shards&, const float*, const float*, float*, bool);
  ProductsBf16<float> bf16_of_floats;
  ProductsBf16<Bf16> bf16;
};

const Kernels& kernels();  // the library chosen for this processor, or the one that THALWEG_ISA names

}  // namespace thalweg

extern "C" const thalweg::Kernels* thalweg_kernels();
