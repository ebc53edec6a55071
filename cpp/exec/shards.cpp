// shards.cpp: cuts the rows of a batch into blocks, by the shape of each shard alone; see shards.h.
#include "shards.h"

#include <algorithm>

namespace thalweg {
namespace {

constexpr int64_t kDenseBlock = 128;  // rows of a block: enough for full vectors, few enough to stay in cache
constexpr int64_t kImageBlock = 512;  // pixels of a block at most

}  // namespace

RowBlocks row_blocks(const Shards& shards, int64_t inner) {
  RowBlocks out{{0}, {0}};
  const int64_t images = inner > 0 ? std::max<int64_t>(1, kDenseBlock / inner) : 1;  // small ones are taken together
  const int64_t pieces = inner > kImageBlock ? (inner + kImageBlock - 1) / kImageBlock : 1;
  for (int s = 0; s < shards.count(); s++) {
    const int64_t last = shards.offset[s + 1];
    for (int64_t row = shards.offset[s]; row < last && inner > 0; row += images)
      for (int64_t p = 1; p <= pieces; p++)
        out.row.push_back(pieces > 1 ? row * inner + inner * p / pieces : std::min(last, row + images) * inner);
    out.shard.push_back(out.blocks());
  }
  return out;
}

}  // namespace thalweg
