// tile_dots.h: blocks of tile_bf16.h by dot products of pairs of bf16.
#pragma once
#include "tile_bf16.h"
#include "vector.h"

#if defined(__x86_64__) && defined(__linux__) && defined(__AVX512F__)
#define TW_UNITS 1  // AMX and dot products are compiled
#endif

namespace thalweg {

using Pairs = Vector<uint32_t>;
TW_INLINE Pairs pairs_at(const Bf16* p) { return (Pairs)load(reinterpret_cast<const float*>(p)); }

void dots_block(const BlockBf16&);
bool dots_folded(const BlockBf16&, int rows, const GroupRange* leaf, int64_t leaves);  // see run_folded

}  // namespace thalweg
