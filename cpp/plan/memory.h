// memory.h: where in one arena each block lives, given the first and last instruction that touch it.
#pragma once
#include <cstdint>
#include <vector>

namespace thalweg {

struct Lifetime {
  int64_t bytes;
  int first, last;     // instructions, both included
  int64_t offset = 0;  // the answer
};

// Blocks whose lifetimes overlap do not overlap in memory. Largest first, each at the lowest offset that is free during
// its life. Returns the bytes of the arena.
int64_t place_blocks(std::vector<Lifetime>& blocks);

}  // namespace thalweg
