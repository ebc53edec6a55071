// reduce.cpp: cuts column folds into tasks; see reduce.h. The cut changes speed and scratch memory, never the bits.
#include "reduce.h"

namespace thalweg {
namespace {

constexpr int64_t kTileChannels = 512;  // a block of a tile stays in the second-level cache
constexpr int64_t kElementsPerRun = 32768;

int64_t tile_of(int64_t channels) {
  if (channels <= kTileChannels) return std::max<int64_t>(1, channels);
  const int64_t tiles = (channels + kTileChannels - 1) / kTileChannels;
  return align_up((channels + tiles - 1) / tiles, 16);
}

int64_t blocks_per_run(const RowBlocks& blocks, int64_t tile) {
  const int64_t rows = blocks.rows() / std::max<int64_t>(1, blocks.blocks());
  int64_t count = 1;
  while (count * rows * tile < kElementsPerRun && count < blocks.blocks()) count *= 2;
  return count;
}

}  // namespace

Columns columns(RowBlocks blocks, int64_t channels) {
  Columns out;
  out.channels = channels;
  out.tile = tile_of(channels);
  out.shard_runs = {0};
  const int64_t step = blocks_per_run(blocks, out.tile);
  for (int s = 0; s < blocks.shards(); s++) {
    int64_t begin = blocks.shard[s];
    const int64_t end = blocks.shard[s + 1];
    do {  // an empty shard has one empty run: its state is the identity
      out.runs.push_back({s, begin, std::min(end, begin + step)});
      begin += step;
    } while (begin < end);
    out.shard_runs.push_back(int64_t(out.runs.size()));
  }
  out.blocks = std::move(blocks);
  return out;
}

}  // namespace thalweg
