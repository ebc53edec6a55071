// norm.h: the sums over arenas that a training step needs, and the merges of ranks. Every order is fixed by n alone.
#pragma once
#include "../exec/exec.h"

namespace thalweg {

// Sum of squares: blocks of 4096 elements in 64 lanes, the blocks' sums in double in the tree of exec/shards.h. A block
// whose sum overflows or nearly vanishes is added again in double, so that only non-finite elements (or squares beyond
// double) show.
double sum_of_squares(const Exec&, DType, const std::byte* x, int64_t n);
// The same in two parts, so that ranks can share the blocks.
inline constexpr int64_t kSquaresBlock = 4096;
void squares_of_blocks(const Exec&, DType, const std::byte* x, int64_t n, double* sums);
double fold_blocks(const double* sums, int64_t n);
void add(const Exec&, DType, std::byte* into, const std::byte* from, int64_t n);    // into += from
int64_t first_non_finite(const Exec&, DType, Kind, const std::byte* x, int64_t n);  // its index; -1: all are finite

// One merge of the tree over ranks: elements [begin, end) of sums; or moments (2, C) = (mean, m2) over n_into and
// n_from rows. Both are bitwise commutative, so all ranks get the same.
void merge_sums(DType, std::byte* into, const std::byte* from, int64_t begin, int64_t end);
void merge_moments(DType, std::byte* into, double n_into, const std::byte* from, double n_from, int64_t channels);

}  // namespace thalweg
