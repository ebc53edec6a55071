// matmul_bf16.cpp: cuts a product of bf16 operands into blocks of tiles, packs its operands (rounding floats), and runs
// the blocks.
#include "matmul_bf16.h"

#include "../tensor/arena.h"
#include "pack_bf16.h"
#include "product_run.h"
#include "stream.h"
#include "tile.h"

namespace thalweg {
namespace {

// Blocking: a part of B, some panels of all K, stays in L2 while blocks of A's rows pass. AMX is so fast that it must
// not wait for those; others gain by smaller parts, unless B is read across, in pieces of its rows that get too short.
constexpr int64_t kPartBytes = 1 << 20, kSmallPartBytes = 1 << 18, kAcrossPanels = 4;
constexpr int64_t kPackedBytes = 8 << 20;  // rows of A that are packed at a time: L3
constexpr double kStartNs = 100;

double product_ns(const Matmul& p) {
  const double flops = 2.0 * double(p.m) * double(p.n) * double(p.k);
  const double moved = double(p.m + p.n) * double(p.k) + double(p.m * p.n);
  return double(p.batch) * (kStartNs + flops / flops_per_ns_bf16() + moved * kMoveNs);
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
  using Own = Bf16;
  using Sum = float;
  // K of shard s is [shard_k[s], shard_k[s + 1]).
  Product(const Matmul& p, std::span<const int64_t> shard_k, int threads, const Operands& o, const Follow& follow)
      : p_(p), shard_k_(shard_k), o_(o), follow_(follow) {
    for (int64_t s = 0; s < shards(); s++) {
      groups_ += shard_groups(s);
      folds_ &= shard_groups(s) <= kLeafGroupsBf16;
    }
    folds_ &= shards() <= kMostLeavesBf16;
    stride_ = (groups_ | 1) * kOperandTile;  // odd: tiles spread over the sets of the caches
    slots_ = shards() > 1 ? tree_slots(shards()) + 1 : 1;
    a_tiles_ = divide_up(p.m, kSide), b_tiles_ = divide_up(p.n, kSide);
    const bool aligned = reinterpret_cast<uintptr_t>(o.c.p) % 64 == 0 && p.c_row % kSide == 0;
    far_ = o.c.is_float && p.m * p.n * int64_t(sizeof(float)) >= kFarBytes && aligned && !follow && !p.accumulate;
    blocks_ = divide_up(p.m, kBlock), panels_ = divide_up(p.n, kBlock);
    cut(threads);
  }

  // One of the operands is packed for all tasks, before them.
  int64_t memory_bytes() const {
    return table_bytes() + (own_a_ ? b_tiles_ : a_tiles_) * stride_ * int64_t(sizeof(Bf16));
  }
  void prepare(std::byte* memory) {
    k_of_ = reinterpret_cast<int64_t*>(memory);
    group_ = reinterpret_cast<GroupBf16*>(memory + align_up(groups_ * int64_t(sizeof(int64_t))));
    packed_ = reinterpret_cast<Bf16*>(memory + table_bytes());
    int64_t g = 0;
    for (int64_t s = 0; s < shards(); s++) {
      if (folds_) leaf_[s] = {g, g + shard_groups(s)};
      for (int64_t k = shard_k_[s]; k < shard_k_[s + 1]; k += kGroup, g++) {
        k_of_[g] = k;
        group_[g] = {g * kOperandTile, std::min<int64_t>(kGroup, shard_k_[s + 1] - k)};
      }
    }
  }
  int64_t pack_items() const { return divide_up(own_a_ ? b_tiles_ : a_tiles_, kPackTiles); }
  void pack(int64_t item) const {
    const int64_t begin = item * kPackTiles;
    if (own_a_) pack_b(begin, std::min(b_tiles_, begin + kPackTiles), packed_ + begin * stride_);
    else pack_a(begin, std::min(a_tiles_, begin + kPackTiles), packed_ + begin * stride_);
  }

  // A task is a group of panels times a part of the blocks of rows. It packs the other operand, into `own`.
  int64_t tasks() const { return parts_ * panel_groups_; }
  int64_t own_count() const { return kBlockSide * stride_ * (own_a_ ? 1 : most_panels()); }
  int64_t sum_count() const { return kBlockSums * slots_; }
  void run(int64_t task, Bf16* own, float* sums) const {
    const int64_t part = task / panel_groups_, group = task % panel_groups_;
    const int64_t first = group * panels_ / panel_groups_, last = (group + 1) * panels_ / panel_groups_;
    const int64_t begin = part * blocks_ / parts_, end = (part + 1) * blocks_ / parts_;
    const TileScope scope;
    if (!own_a_) pack_b(kBlockSide * first, std::min(b_tiles_, kBlockSide * last), own);
    for (int64_t i = begin; i < end; i++) {
      const Bf16* a = own_a_ ? own : packed_ + kBlockSide * i * stride_;
      if (own_a_) pack_a(kBlockSide * i, kBlockSide * i + tall(i), own);
      run_row({i, first, last}, a, own_a_ ? packed_ : own, sums);
    }
    if (far_) end_far();
  }

 private:
  static constexpr int64_t kPackTiles = 4;
  static constexpr int64_t kBeside = 16;  // tiles of B that take their parts of a row one after the other

  struct Row {  // a block of rows, panels [first, last)
    int64_t block, first, last;
  };
  int64_t shards() const { return int64_t(shard_k_.size()) - 1; }
  int64_t shard_count(int64_t s) const { return shard_k_[s + 1] - shard_k_[s]; }
  int64_t shard_groups(int64_t s) const { return divide_up(shard_count(s), kGroup); }
  int64_t table_bytes() const {
    return align_up(groups_ * int64_t(sizeof(int64_t))) + align_up(groups_ * int64_t(sizeof(GroupBf16)));
  }
  int64_t most_panels() const { return divide_up(panels_, panel_groups_); }
  int rows_of(int64_t block) const { return int(std::min<int64_t>(kBlock, p_.m - block * kBlock)); }
  int tall(int64_t block) const { return int(std::min<int64_t>(kBlockSide, a_tiles_ - kBlockSide * block)); }
  int wide(int64_t panel) const { return int(std::min<int64_t>(kBlockSide, b_tiles_ - kBlockSide * panel)); }

  // Into groups of panels, an even share for each thread, or, where one group holds all, into parts of rows.
  void cut(int threads) {
    auto shared = [threads](int64_t n) { return divide_up(n, threads) * threads; };
    const int64_t panel_bytes = kBlockSide * stride_ * int64_t(sizeof(Bf16));
    auto groups_of = [&](int64_t bytes, int64_t least) {
      return divide_up(panels_, std::max<int64_t>(least, bytes / panel_bytes));
    };
    panel_groups_ = groups_of(kPartBytes, 1);
    own_a_ = panel_groups_ == 1 && blocks_ >= 2 * threads && blocks_ >= panels_;
    if (!own_a_ && unit_bf16() == UnitBf16::dots)
      panel_groups_ = std::max(panel_groups_, groups_of(kSmallPartBytes, p_.b_row == 1 ? 1 : kAcrossPanels));
    if (own_a_) parts_ = std::min(blocks_, shared(1));
    else if (panels_ >= threads) panel_groups_ = std::min(panels_, shared(panel_groups_));
  }

  void pack_a(int64_t begin, int64_t end, Bf16* to) const {
    pack_tiles({o_.a, p_.a_col, p_.a_row}, begin, end, p_.m, PackForm::rows, to);
  }
  void pack_b(int64_t begin, int64_t end, Bf16* to) const {
    pack_tiles({o_.b, p_.b_row, p_.b_col}, begin, end, p_.n, PackForm::pairs, to);
  }
  // Tiles [begin, end) of rows or columns, read in runs as long as they are in memory.
  void pack_tiles(const OperandBf16& o, int64_t begin, int64_t end, int64_t all, PackForm form, Bf16* to) const {
    auto pack = [&](int64_t tile, int64_t k, int64_t count, int64_t group) {
      const int n = int(std::min<int64_t>(kSide, all - tile * kSide));
      pack_bf16(o, k, count, tile * kSide, n, form, to + (tile - begin) * stride_ + group * kOperandTile);
    };
    if (o.k_step != 1 && form == PackForm::pairs) {
      for (int64_t tile = begin; tile < end; tile += kBeside)
        for (int64_t g = 0; g < groups_; g++)
          pack_pairs_bf16(o, k_of_[g], group_[g].count, tile * kSide,
                          std::min(std::min(end, tile + kBeside) * kSide, all) - tile * kSide,
                          to + (tile - begin) * stride_ + g * kOperandTile, stride_);
      return;
    }
    if (o.k_step != 1) {
      for (int64_t g = 0; g < groups_; g++)
        for (int64_t tile = begin; tile < end; tile++) pack(tile, k_of_[g], group_[g].count, g);
      return;
    }
    for (int64_t tile = begin; tile < end; tile++)
      for (int64_t s = 0, g = 0; s < shards(); g += shard_groups(s++)) pack(tile, shard_k_[s], shard_count(s), g);
  }

  void run_row(const Row& row, const Bf16* a, const Bf16* b, float* sums) const {
    BlockBf16 block{.a = {a, a + stride_},
                    .a_step = kGroup,
                    .half = {kHalfSide * kGroup, kHalfSide * kGroup},
                    .b = {},
                    .group = group_,
                    .groups = groups_,
                    .tall = tall(row.block),
                    .wide = 0,
                    .sum = sums,
                    .fresh = true};
    for (int64_t panel = row.first; panel < row.last; panel++, b += kBlockSide * stride_) {
      block.b[0] = b, block.b[1] = b + stride_;
      block.wide = wide(panel);
      const Block c = block_of(row.block, panel);
      ask(c);
      if (shards() == 1) run_block(block);
      else run_shards(block, rows_of(row.block), sums);
      put(c, panel, sums);
    }
  }
  // The sums of a block, shard by shard, folded. The result is the stack's first slot.
  void run_shards(BlockBf16& block, int rows, float* stack) const {
    block.group = group_, block.sum = stack;
    if (folds_ && run_folded(block, rows, leaf_, shards())) return;
    float* sum = stack + (slots_ - 1) * kBlockSums;
    for (int64_t s = 0; s < shards(); s++) {
      const LeafBf16 leaf = leaf_at(s, shards());
      block.groups = shard_groups(s);
      block.sum = leaf_sum(leaf, stack, sum);
      run_block(block);
      fold_leaf(leaf, stack, sum);
      block.group += block.groups;
      for (const Bf16*& b : block.b) b += block.groups * kOperandTile;
    }
  }
  Block block_of(int64_t block, int64_t panel) const {
    const int64_t i = block * kBlock, j = panel * kBlock;
    return {i * p_.c_row + j, p_.c_row, rows_of(block), std::min<int64_t>(kBlock, p_.n - j)};
  }
  // For the rows of C that a block will write, and for what follows it.
  void ask(const Block& b) const {
    const int64_t bytes = o_.c.is_float ? sizeof(float) : sizeof(Bf16);
    if (p_.m * p_.n * bytes <= kNearProductBytes) return;
    if (!far_) ask_block(o_.c.bytes(), bytes, b);
    if (follow_) follow_.ask(b);
  }
  void put(const Block& b, int64_t panel, const float* sum) const {
    const int rows = int(b.rows);
    const float* bias = o_.bias ? o_.bias + panel * kBlock : nullptr;
    for (int r = 0; r < rows; r += kSide)
      put_tile(sum + kBlockSide * (r / kSide) * kSumTile, std::min(kSide, rows - r), int(b.n), bias, p_.accumulate,
               o_.c.from(b.begin + r * b.step), b.step, far_);
    if (follow_) follow_(b);
  }

  const Matmul p_;
  const std::span<const int64_t> shard_k_;
  const Operands o_;
  const Follow follow_;
  int64_t groups_ = 0, stride_, a_tiles_, b_tiles_, blocks_, panels_, parts_ = 1, panel_groups_ = 1;
  int slots_;
  bool own_a_ = false, far_, folds_ = true;
  GroupRange leaf_[kMostLeavesBf16] = {};  // shards that run_folded folds
  int64_t* k_of_ = nullptr;                // first k of every group
  GroupBf16* group_ = nullptr;
  Bf16* packed_ = nullptr;
};

// A product and where its operands lie.
struct Job {
  Matmul p;
  std::span<const int64_t> shard_k;
  Operands o;
  Follow follow;

  double ns() const { return product_ns(p); }
  Job part(const Grid::Cell& cell) const {
    Job j = *this;
    const int64_t at = cell.row * p.c_row + cell.column;
    j.p.m = cell.rows, j.p.n = cell.columns;
    j.o = o.from(cell.row * p.a_row, cell.column * p.b_col, at);
    if (o.bias) j.o.bias += cell.column;
    j.follow = follow.from(at);
    return j;
  }
  int64_t round() const {
    const int64_t row_bytes = std::max<int64_t>(1, p.k) * int64_t(sizeof(Bf16));
    return std::max<int64_t>(1, kPackedBytes / (row_bytes * kBlock)) * kBlock;
  }
  Grid grid(int threads) const {
    return Grid::of(p.m, p.n, p.k * int64_t(sizeof(float)), kBlock, threads, [&](int64_t m, int64_t n) {
      Matmul part = p;
      part.m = divide_up(m, kBlock) * kBlock, part.n = n;
      return product_ns(part);
    });
  }
  Product product(int threads) const { return {p, shard_k, threads, o, follow}; }
};

void product(const Exec& exec, const Matmul& whole, const Operands& o, const Follow& follow) {
  if (whole.m == 0 || whole.n == 0 || whole.batch == 0) return;
  const Matmul p = merge_batch(whole);
  const int64_t one_shard[] = {0, p.k};
  Matmul one = p;
  one.batch = 1;
  auto nth = [&](int64_t i) {
    return Job{one, one_shard, o.from(i * p.a_batch, i * p.b_batch, i * p.c_batch), follow.from(i * p.c_batch)};
  };
  run_jobs(exec, p.batch, nth);
}

}  // namespace

template <class X, class Y>
void matmul_bf16(const Exec& exec, const Matmul& p, const X* a, const X* b, const float* bias, Y* c,
                 const Follow& follow) {
  product(exec, p, {a, b, bias, c}, follow);
}
template <class X, class Y>
void matmul_bf16_weight(const Exec& exec, const Matmul& p, const X* a, const float* b, const float* bias, Y* c,
                        const Follow& follow) {
  product(exec, p, {a, b, bias, c}, follow);
}
template <class X>
void matmul_fold_bf16(const Exec& exec, const Matmul& p, const Shards& shards, const X* a, const X* b, float* c) {
  if (p.m == 0 || p.n == 0) return;
  run_job(exec, Job{p, shards.offset, {a, b, nullptr, c}, {}});
}

#define TW_PRODUCTS(X, Y)                                                                                     \
  template void matmul_bf16(const Exec&, const Matmul&, const X*, const X*, const float*, Y*, const Follow&); \
  template void matmul_bf16_weight(const Exec&, const Matmul&, const X*, const float*, const float*, Y*, const Follow&);
TW_PRODUCTS(float, float)
TW_PRODUCTS(Bf16, Bf16)
TW_PRODUCTS(Bf16, float)
#undef TW_PRODUCTS
template void matmul_fold_bf16(const Exec&, const Matmul&, const Shards&, const float*, const float*, float*);
template void matmul_fold_bf16(const Exec&, const Matmul&, const Shards&, const Bf16*, const Bf16*, float*);

}  // namespace thalweg
