// random.h: arrays of random numbers. Element i depends on (seed, stream, i) alone.
#pragma once
#include <string>

#include "../exec/exec.h"

namespace thalweg {

// "normal": mean a, standard deviation b;  "uniform": from a to b (b excluded up to rounding);
// "truncated_normal": a normal number kept within two standard deviations (drawn again until it is; b is that of the
// uncut distribution). Another name is a ValueError.
void fill_random(const Exec&, DType, const std::string& distribution, double a, double b, uint64_t seed,
                 uint64_t stream, std::byte* out, int64_t n);

// A permutation of 0 .. n-1, each equally likely: Fisher & Yates, from the last place to the first.
void permutation(uint64_t seed, uint64_t stream, int64_t* out, int64_t n);

}  // namespace thalweg
