// matmul_bf16.cpp: cuts a product of bf16 operands into blocks of tiles, packs its operands (rounding floats), and runs
// the blocks.
#include "matmul_bf16.h"

#include "../tensor/arena.h"
#include "pack_bf16.h"
#include "tile.h"

namespace thalweg {
namespace {

// Blocking: a part of A's rows, one chunk of K, stays in L2 while B passes.
constexpr int64_t kPartBytes = 1 << 20;    // of a part's chunk
constexpr int64_t kLeastChunk = 32;        // groups
constexpr int64_t kGroupPanels = 8;        // of kBlock columns, that a part passes before its next chunk
constexpr int64_t kPackedBytes = 8 << 20;  // rows of A that are packed at a time: L3
constexpr int64_t kRowsBytes = 512 << 10;  // of a B that lies in L2 while rows of blocks pass
constexpr int64_t kRowsPart = 128 << 10;   // of A that is packed then at a time
constexpr double kFlopsPerNs = 1500, kPackNs = 0.05, kStartNs = 100;

double product_ns(const Matmul& p) {
  const double flops = 2.0 * double(p.m) * double(p.n) * double(p.k), moved = double(p.m + p.n) * double(p.k);
  return double(p.batch) *
         (amx_used() ? kStartNs + flops / kFlopsPerNs + moved * kPackNs + double(p.m * p.n) * kPackNs
                     : 2 * matmul_ns(p, false));
}

struct Operands {
  NumbersBf16 a, b;
  const float* bias;
  OutBf16 c;
  Operands from(int64_t a_from, int64_t b_from, int64_t c_from) const {
    return {a.from(a_from), b.from(b_from), bias, c.from(c_from)};
  }
};

// One product and the memory that it runs in.
class Product {
 public:
  // K of shard s is [shard_k[s], shard_k[s + 1]).
  Product(const Matmul& p, std::span<const int64_t> shard_k, int threads, const Operands& o, const Follow& follow)
      : p_(p), shard_k_(shard_k), o_(o), follow_(follow) {
    for (int64_t s = 0; s < shards(); s++) groups_ += shard_groups(s);
    slots_ = shards() > 1 ? tree_slots(shards()) + 1 : 1;
    tiles_ = divide_up(p.m, kSide);
    panels_ = divide_up(p.n, kBlock);
    cut(threads);
  }

  int64_t memory_bytes() const {
    return offset_bytes() + ((own_a_ ? 0 : tiles_) + (own_b_ ? 0 : b_tiles())) * groups_ * kTileBytes;
  }
  void prepare(std::byte* memory) {
    offset_ = reinterpret_cast<int64_t*>(memory);
    for (int64_t g = 0; g < groups_; g++) offset_[g] = g * kOperandTile;
    a_packed_ = reinterpret_cast<Bf16*>(memory + offset_bytes());
    b_packed_ = a_packed_ + (own_a_ ? 0 : tiles_ * groups_ * kOperandTile);
  }
  int64_t pack_items() const { return a_items() + b_items(); }
  void pack(int64_t item) const {
    if (item < a_items()) pack_a(item, a_packed_ + item * groups_ * kOperandTile);
    else pack_b(item - a_items(), 0, groups_, b_packed_ + (item - a_items()) * groups_ * kOperandTile);
  }

  // A task is a group of panels times a part of the row tiles. Its sums are one block with its stack, or all its blocks
  // when K passes in chunks. What no other task needs is packed here, into `own`.
  int64_t tasks() const { return parts_ * panel_groups_; }
  int64_t own_bytes() const {
    return (own_a_ ? divide_up(tiles_, parts_) * groups_ : own_b_ ? kBlockSide * std::min(chunk_, groups_) : 0) *
           kTileBytes;
  }
  int64_t sum_count() const {
    return kBlockSums * (chunks() ? blocks(divide_up(tiles_, parts_)) * divide_up(panels_, panel_groups_) : slots_);
  }
  void run(int64_t task, Bf16* own, float* sums) const {
    const int64_t part = task / panel_groups_, group = task % panel_groups_;
    const int64_t begin = part * tiles_ / parts_, end = (part + 1) * tiles_ / parts_;
    const int64_t first = group * panels_ / panel_groups_, last = (group + 1) * panels_ / panel_groups_;
    const TileScope scope;
    const Bf16* a = own_a_ ? own : a_packed_ + begin * groups_ * kOperandTile;
    for (int64_t t = begin; t < end && own_a_; t++) pack_a(t, own + (t - begin) * groups_ * kOperandTile);
    for (int64_t g = 0; g < groups_ || g == 0; g += chunk_) {
      const int64_t stop = std::min(groups_, g + chunk_);
      float* sum = sums;
      for (int64_t panel = first; panel < last; panel++) {
        const Bf16* b = b_packed_ + (kBlockSide * panel * groups_ + g) * kOperandTile;
        const int64_t b_next = own_b_ ? stop - g : groups_;
        if (own_b_) {
          for (int t = 0; t < wide(panel); t++)
            pack_b(kBlockSide * panel + t, g, stop, own + t * b_next * kOperandTile);
          b = own;
        }
        for (int64_t t = begin; t < end; t += kBlockSide, sum += chunks() ? kBlockSums : 0) {
          const BlockBf16 block{.a = {a + (t - begin) * groups_ * kOperandTile,
                                      a + (t - begin + 1) * groups_ * kOperandTile},
                                .a_step = kGroup,
                                .b = {b, b + b_next * kOperandTile},
                                .group = offset_ + g,
                                .groups = stop - g,
                                .tall = int(std::min<int64_t>(kBlockSide, end - t)),
                                .wide = wide(panel),
                                .sum = sum,
                                .fresh = g == 0};
          run_leaves(block);
          if (stop == groups_) put(t, panel, block);
        }
      }
    }
  }

 private:
  static constexpr int64_t kTileBytes = kOperandTile * sizeof(Bf16);
  static int64_t blocks(int64_t tiles) { return divide_up(tiles, kBlockSide); }
  int64_t shards() const { return int64_t(shard_k_.size()) - 1; }
  int64_t shard_count(int64_t s) const { return shard_k_[s + 1] - shard_k_[s]; }
  int64_t shard_groups(int64_t s) const { return divide_up(shard_count(s), kGroup); }
  int64_t offset_bytes() const { return align_up(groups_ * int64_t(sizeof(int64_t))); }
  int64_t b_tiles() const { return divide_up(p_.n, kSide); }
  int64_t a_items() const { return own_a_ ? 0 : tiles_; }
  int64_t b_items() const { return own_b_ ? 0 : b_tiles(); }
  bool chunks() const { return groups_ > chunk_; }
  int wide(int64_t panel) const { return int(std::min<int64_t>(kBlockSide, b_tiles() - kBlockSide * panel)); }

  // Into parts of rows and groups of panels, an even share of both for each thread; K into chunks.
  void cut(int threads) {
    auto shared = [threads](int64_t n) { return divide_up(n, threads) * threads; };
    const int64_t row_bytes = std::max<int64_t>(1, groups_) * kTileBytes;  // of a tile
    chunk_ = std::max<int64_t>(1, groups_);
    own_a_ = b_tiles() * row_bytes <= kRowsBytes && tiles_ * row_bytes > 2 * kRowsPart;
    if (own_a_) {
      panel_groups_ = 1;
      parts_ = std::min(tiles_, shared(divide_up(tiles_ * row_bytes, kRowsPart)));
      return;
    }
    const int64_t least = shards() > 1 ? chunk_ : std::min(chunk_, kLeastChunk);
    parts_ = std::min(tiles_, divide_up(tiles_ * least * kTileBytes, kPartBytes));
    const int64_t fits = kPartBytes / (divide_up(tiles_, parts_) * kTileBytes);
    chunk_ = std::clamp(fits, least, chunk_);
    panel_groups_ = divide_up(panels_, kGroupPanels);
    if (panels_ >= threads) panel_groups_ = std::min(panels_, shared(panel_groups_));
    else parts_ = std::min(tiles_, shared(parts_));
    own_b_ = parts_ == 1 && shards() == 1;
  }

  void pack_a(int64_t tile, Bf16* to) const {
    const OperandBf16 a{o_.a, p_.a_col, p_.a_row};
    pack_shards(a, tile * kSide, p_.m, PackForm::rows, to);
  }
  // Groups [from, stop) of a tile of columns.
  void pack_b(int64_t tile, int64_t from, int64_t stop, Bf16* to) const {
    const OperandBf16 b{o_.b, p_.b_row, p_.b_col};
    if (shards() > 1) return pack_shards(b, tile * kSide, p_.n, PackForm::pairs, to);
    const int64_t k = from * kGroup, count = std::min(p_.k, stop * kGroup) - k;
    pack_bf16(b, k, count, tile * kSide, side(tile, p_.n), PackForm::pairs, to);
  }
  void pack_shards(const OperandBf16& o, int64_t j, int64_t all, PackForm form, Bf16* to) const {
    for (int64_t s = 0; s < shards(); to += shard_groups(s++) * kOperandTile)
      pack_bf16(o, shard_k_[s], shard_count(s), j, side(j / kSide, all), form, to);
  }
  static int side(int64_t tile, int64_t all) { return int(std::min<int64_t>(kSide, all - tile * kSide)); }

  // The sums of a block: of all its groups, or shard by shard, folded.
  void run_leaves(BlockBf16 block) const {
    if (shards() == 1) return run_block(block);
    float* stack = block.sum;
    for (int64_t s = 0; s < shards(); s++) {
      const LeafBf16 leaf = leaf_at(s, shards());
      block.groups = shard_groups(s);
      block.sum = leaf_sum(leaf, stack, slots_);
      run_block(block);
      fold_leaf(leaf, stack, slots_);
      block.group += block.groups;
      for (const Bf16*& b : block.b) b += block.groups * kOperandTile;
    }
  }
  void put(int64_t tile, int64_t panel, const BlockBf16& block) const {
    const int64_t i = tile * kSide, j = panel * kBlock, at = i * p_.c_row + j;
    for (int t = 0; t < block.tall; t++)
      for (int u = 0; u < block.wide; u++)
        put_tile(block.sum + (kBlockSide * t + u) * kSumTile, side(tile + t, p_.m), side(kBlockSide * panel + u, p_.n),
                 o_.bias ? o_.bias + j + u * kSide : nullptr, p_.accumulate,
                 o_.c.from(at + t * kSide * p_.c_row + u * kSide), p_.c_row);
    const int64_t rows = std::min<int64_t>(block.tall * kSide, p_.m - i), n = std::min<int64_t>(kBlock, p_.n - j);
    if (follow_) follow_({at, p_.c_row, rows, n});
  }

  const Matmul p_;
  const std::span<const int64_t> shard_k_;
  const Operands o_;
  const Follow follow_;
  int64_t groups_ = 0, tiles_, panels_, parts_ = 1, panel_groups_ = 1, chunk_ = 1;
  int slots_;
  bool own_a_ = false, own_b_ = false;
  int64_t* offset_ = nullptr;
  Bf16 *a_packed_ = nullptr, *b_packed_ = nullptr;
};

// Tasks of one product on all threads.
void run_shared(const Exec& exec, Product product, double ns) {
  product.prepare(exec.scratch<std::byte>(0, Slot::shared_pack, product.memory_bytes()));
  exec.parallel(product.pack_items(), ns, [&](int64_t item, int) { product.pack(item); });
  exec.parallel(product.tasks(), ns, [&](int64_t task, int worker) {
    product.run(task, exec.scratch<Bf16>(worker, Slot::b_pack, product.own_bytes() / int64_t(sizeof(Bf16))),
                exec.scratch<float>(worker, Slot::tile, product.sum_count()));
  });
}
// A whole product on one worker.
void run_alone(const Exec& exec, Product product, int worker) {
  product.prepare(exec.scratch<std::byte>(worker, Slot::a_pack, product.memory_bytes()));
  for (int64_t item = 0; item < product.pack_items(); item++) product.pack(item);
  Bf16* own = exec.scratch<Bf16>(worker, Slot::b_pack, product.own_bytes() / int64_t(sizeof(Bf16)));
  float* sums = exec.scratch<float>(worker, Slot::tile, product.sum_count());
  for (int64_t task = 0; task < product.tasks(); task++) product.run(task, own, sums);
}
// Rows of A go in rounds, so that packing them takes bounded memory.
void run_rounds(const Exec& exec, const Matmul& p, std::span<const int64_t> shard_k, const Operands& o,
                const Follow& follow) {
  const int64_t row_bytes = std::max<int64_t>(1, p.k) * int64_t(sizeof(Bf16));
  const int64_t round = std::max<int64_t>(1, kPackedBytes / (row_bytes * kBlock)) * kBlock;
  for (int64_t i = 0; i < p.m; i += round) {
    Matmul part = p;
    part.m = std::min(round, p.m - i);
    const double ns = product_ns(part);
    run_shared(exec,
               Product(part, shard_k, exec.threads_for(ns), o.from(i * p.a_row, 0, i * p.c_row),
                       follow.from(i * p.c_row)),
               ns);
  }
}
void product(const Exec& exec, const Matmul& whole, const Operands& o, const Follow& follow) {
  if (whole.m == 0 || whole.n == 0 || whole.batch == 0) return;
  const Matmul p = merge_batch(whole);
  const int64_t one_shard[] = {0, p.k};
  Matmul one = p;
  one.batch = 1;
  const double one_ns = product_ns(one);
  auto at = [&](int64_t i) { return o.from(i * p.a_batch, i * p.b_batch, i * p.c_batch); };
  if (p.batch == 1 || exec.threads_for(one_ns) > 1) {
    for (int64_t i = 0; i < p.batch; i++) run_rounds(exec, one, one_shard, at(i), follow.from(i * p.c_batch));
    return;
  }
  exec.parallel(p.batch, one_ns * double(p.batch), [&](int64_t i, int worker) {
    run_alone(exec, Product(one, one_shard, 1, at(i), follow.from(i * p.c_batch)), worker);
  });
}

}  // namespace

template <class X>
void matmul_bf16(const Exec& exec, const Matmul& p, const X* a, const X* b, const float* bias, X* c,
                 const Follow& follow) {
  product(exec, p, {a, b, bias, c}, follow);
}
template <class X>
void matmul_bf16_weight(const Exec& exec, const Matmul& p, const X* a, const float* b, const float* bias, X* c,
                        const Follow& follow) {
  product(exec, p, {a, b, bias, c}, follow);
}
template <class X>
void matmul_fold_bf16(const Exec& exec, const Matmul& p, const Shards& shards, const X* a, const X* b, float* c) {
  if (p.m == 0 || p.n == 0) return;
  run_rounds(exec, p, shards.offset, {a, b, nullptr, c}, {});
}

#define TW_PRODUCTS(X)                                                                                           \
  template void matmul_bf16(const Exec&, const Matmul&, const X*, const X*, const float*, X*, const Follow&);    \
  template void matmul_bf16_weight(const Exec&, const Matmul&, const X*, const float*, const float*, X*,         \
                                   const Follow&);                                                               \
  template void matmul_fold_bf16(const Exec&, const Matmul&, const Shards&, const X*, const X*, float*);
TW_PRODUCTS(float)
TW_PRODUCTS(Bf16)
#undef TW_PRODUCTS

}  // namespace thalweg
