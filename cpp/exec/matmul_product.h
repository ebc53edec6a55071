// matmul_product.h: one product of matmul.h cut into tiles, its operands packed where that pays, and the tile run over
// them. Used by matmul.cpp alone.
#pragma once
#include "../tensor/arena.h"
#include "matmul.h"
#include "pack.h"
#include "product_run.h"
#include "tile.h"

namespace thalweg {
namespace matmul_detail {

// Blocking: a part of A's rows, one chunk of K, stays in L2 while panels of B pass; the chunk of one panel stays in L1
// while the tiles of the part pass.
inline constexpr int64_t kLeastChunk = kKBlock, kMostChunk = 2048;
inline constexpr int64_t kFarBytesOfA = 512 << 10, kFarChunk = 4096;  // an A that is read where it lies: in long runs
inline constexpr int64_t kFoldChunk = 1024;       // with several shards: sums that wait for the next chunk are dear
inline constexpr int64_t kPartBytes = 640 << 10;  // of a part's chunk
inline constexpr int64_t kGroupPanels = 8;        // that a part passes before its next chunk
inline constexpr int64_t kPlainBytes = 24 << 10;  // of a B that many tiles read where it lies: L1
inline constexpr int64_t kStrip = 8;              // panels that a tile passes in one call
inline constexpr int64_t kRowsBytes = 256 << 10;  // of a B that lies in L2 while rows of tiles pass
inline constexpr int64_t kAcrossBytes = 1 << 20;  // the same, where A is read where it lies
inline constexpr int64_t kPageBytes = 4096;
inline constexpr int64_t kRest = 20;           // k of such a B at a time: as many pages as the processor streams
inline constexpr int64_t kSumBytes = 1 << 20;  // of those that it passes where each k of B lies in a page of its own
inline constexpr int64_t kWide = 8,
                         kWideK = 4;   // panels, and their k, that are packed at a time where each k has its page
inline constexpr int64_t kAhead = 32;  // k of an A that is read where it lies
inline constexpr int64_t kFoldK = 64;  // of a shard at most, for tiles that add shards in registers
inline constexpr int64_t kBesideBytes = 16 << 10;  // of the rows of tiles that pass a panel together
inline constexpr int64_t kPackK = 32;              // packed at a time where the source runs along rows or columns

// Whether operands are packed, for a C of so many tiles and panels.
struct Packing {
  bool a, b;
};
template <class T>
Packing packing(const Matmul& p, bool across, int64_t tiles, int64_t panels) {
  const bool many = panels > 4 && !across;
  const bool near = p.k * p.n * int64_t(sizeof(T)) <= kPlainBytes;
  return {many || (p.a_col != 1 && p.a_row != 1), (tiles > 3 && !near) || p.b_col != 1 || p.n % kLanes<T> != 0};
}

// One product and the memory that it runs in. Neither the cut into tiles nor packing shows in the result.
template <class T>
class MatmulProduct {
 public:
  using Own = T;
  using Sum = T;
  // shard_k: K of shard s is [shard_k[s], shard_k[s + 1]). across: C(i, j) is c[j * c_row + i], and its bias bias(i).
  MatmulProduct(const Matmul& p, bool across, std::span<const int64_t> shard_k, int threads)
      : p_(p), shard_k_(shard_k), across_(across) {
    far_ = p.m * p.n * int64_t(sizeof(T)) > kNearProductBytes;
    far_a_ = p.a_row == p.k && p.m * p.k * int64_t(sizeof(T)) > kNearProductBytes;
    panels_ = divide_up(p.n, kPanel<T>);
    const Packing pack = packing<T>(p, across, divide_up(p.m, kTileRows), panels_);
    pack_a_ = pack.a, pack_b_ = pack.b;
    far_rows_ = p.b_col == 1 && p.b_row * int64_t(sizeof(T)) >= kPageBytes;
    form_ = !pack_a_ && p.a_col == 1 ? TileForm::rows : TileForm::columns;
    if (form_ == TileForm::columns && folds_in_registers()) form_ = TileForm::folded;
    tiles_ = divide_up(p.m, kTileRows);
    rows_ = p.m / tiles_, tall_ = p.m % tiles_;
    a_step_ = pack_a_ ? kRowsWidth<T> : p.a_col;
    b_step_ = pack_b_ ? kPanel<T> : p.b_row;
    rest_ = far_rows_ && !pack_b_ ? kRest : INT64_MAX;
    max_chains_ = p.k / kKBlock + p.k / rest_ + shards();
    a_tile_ = p.k * kRowsWidth<T>;
    b_panel_ = p.k * kPanel<T>;
    cut(threads);
    own_b_ = pack_b_ && parts_ == 1 && !rows_first_;
    wide_ = own_b_ && far_rows_ ? kWide : 1;
    beside_ = most_beside();
  }

  // Where operands and C lie, for all that follows.
  void bind(const T* a, const T* b, const T* bias, T* c, const Follow& follow, bool accumulate) {
    a_ = a, b_ = b, bias_ = bias, c_ = c, follow_ = follow, p_.accumulate = accumulate;
    const bool aligned = reinterpret_cast<uintptr_t>(c) % kVectorBytes == 0 && p_.c_row % kLanes<T> == 0;
    stream_ = p_.m * p_.n * int64_t(sizeof(T)) >= kFarBytes && aligned && !follow && !p_.accumulate && !across_;
  }

  // The order of the sums and what is packed lie in memory of the caller's, which may differ from run to run of one
  // order.
  int64_t memory_bytes() const { return order_bytes() + packed_bytes(); }
  void prepare(std::byte* memory) {
    write_order(memory);
    place_packed(memory + order_bytes());
  }
  int64_t order_bytes() const { return segment_bytes() + chain_bytes(); }
  int64_t packed_bytes() const {
    return ((pack_a_ ? tiles_ * a_tile_ : 0) + (pack_b_ && !own_b_ ? panels_ * b_panel_ : 0)) * int64_t(sizeof(T));
  }
  void place_packed(std::byte* memory) {
    a_packed_ = reinterpret_cast<T*>(memory);
    b_packed_ = a_packed_ + (pack_a_ ? tiles_ * a_tile_ : 0);
  }
  void write_order(std::byte* memory) {
    auto* segment = reinterpret_cast<KSegment*>(memory);
    auto* chain = reinterpret_cast<Chain*>(memory + segment_bytes());
    SumOrderWriter w(segment, chain, a_step_, b_step_, kKBlock, false, rest_);
    for (int64_t s = 0; s < shards(); s++) {
      const int64_t k = shard_k_[s];
      w.begin_leaf(s, shards());
      w.add(k * a_step_, k * b_step_, shard_k_[s + 1] - k);
      w.end_leaf();
    }
    shard_k_ = {};
    order_ = w.order();
    chunk_ = chunks() ? std::max<int64_t>(1, order_.chains * chunk_k_ / p_.k) : order_.chains;
  }

  int64_t pack_items() const { return a_items() + b_items(); }
  void pack(int64_t item) const {
    if (item < a_items())
      return a_along_k() ? pack_a(item, item + 1, 0, p_.k) : pack_a(0, tiles_, k_at(item), k_at(item + 1));
    item -= a_items();
    const int64_t from = b_along_k() ? 0 : k_at(item), to = b_along_k() ? p_.k : k_at(item + 1);
    for (int64_t panel = b_along_k() ? item : 0; panel < (b_along_k() ? item + 1 : panels_); panel++)
      pack_b(panel, from, to, b_packed_ + panel * b_panel_ + from * kPanel<T>);
  }

  // A task is a group of panels times a part of the row tiles. Its stack has the slots of one tile, or of all its tiles
  // when K passes in chunks. Where no other task needs them panels are packed here, chunk by chunk, into `own`.
  int64_t tasks() const { return parts_ * groups_; }
  int64_t own_count() const { return own_b_ ? wide_ * std::min(p_.k, chunk_ * kKBlock) * kPanel<T> : 0; }
  int64_t sum_count() const {
    return tile_stack() * (chunks() ? divide_up(tiles_, parts_) * divide_up(panels_, groups_) : 1);
  }
  void run(int64_t task, T* own, T* stack) const {
    const int64_t part = task / groups_, group = task % groups_;
    const int64_t begin = part * tiles_ / parts_, end = (part + 1) * tiles_ / parts_;
    if (rows_first_) {  // C is written in the order in which it lies
      for (int64_t t = begin, tiles; t < end; t += tiles) {
        tiles = tiles_beside(t, end);
        for (int64_t panel = 0, count; panel < panels_; panel += count) {
          count = strip(panel);
          run_tiles(t, tiles, panel, count, panel_of_b(panel), 0, order_.chains, stack);
        }
      }
      return stream_ ? end_far() : void();
    }
    const int64_t next = chunks() ? tile_stack() : 0, first = group * panels_ / groups_,
                  stop = (group + 1) * panels_ / groups_;
    for (int64_t s = 0; s < order_.chains; s += chunk_) {
      const int64_t last = std::min(order_.chains, s + chunk_);
      const int64_t from = own_b_ ? first_k(s) : 0, to = own_b_ && last < order_.chains ? first_k(last) : p_.k;
      T* slots = stack;
      for (int64_t panel = first; panel < stop; panel++) {
        const int64_t place = own_b_ ? (panel - first) % wide_ : 0;
        if (own_b_ && place == 0) pack_own(panel, std::min(panel + wide_, stop), from, to, own);
        const T* b = own_b_ ? own + (place * (to - from) - from) * kPanel<T> : panel_of_b(panel);
        for (int64_t t = begin, tiles; t < end; t += tiles, slots += next) {
          tiles = tiles_beside(t, end);
          run_tiles(t, tiles, panel, 1, b, s, last, slots);
        }
      }
    }
    if (stream_) end_far();
  }

 private:
  int64_t shards() const { return int64_t(shard_k_.size()) - 1; }
  int64_t segment_bytes() const { return align_up(max_chains_ * int64_t(sizeof(KSegment))); }
  int64_t chain_bytes() const { return align_up(max_chains_ * int64_t(sizeof(Chain))); }
  // What is packed at a time is read in runs: a tile or panel where K runs, else some K of all of them.
  bool a_along_k() const { return p_.a_row != 1; }
  bool b_along_k() const { return p_.b_col != 1; }
  int64_t k_at(int64_t item) const { return std::min(p_.k, item * kPackK); }
  int64_t a_items() const { return !pack_a_ ? 0 : a_along_k() ? tiles_ : divide_up(p_.k, kPackK); }
  int64_t b_items() const { return !pack_b_ || own_b_ ? 0 : b_along_k() ? panels_ : divide_up(p_.k, kPackK); }
  int64_t tile_stack() const { return order_.slots * kTileSize<T>; }
  int64_t row_of(int64_t tile) const { return std::min(p_.m, tile * rows_ + std::min(tile, tall_)); }
  // Shards of a few k each: their sums cost as much as their products where they pass through memory. K must not pass
  // in chunks.
  bool folds_in_registers() const {
    if (!kFoldsInRegisters || shards() == 0 || shards() % kFoldLeaves != 0 || (far_rows_ && !pack_b_) ||
        p_.k > (pack_a_ ? kFoldChunk : kLeastChunk))
      return false;
    for (int64_t s = 0; s < shards(); s++)
      if (shard_k_[s + 1] - shard_k_[s] > kFoldK) return false;
    return true;
  }
  bool chunks() const { return p_.k > chunk_k_; }

  // Into parts of rows and groups of panels, an even share of both for each thread; K into chunks. A that is read where
  // it lies is read once.
  void cut(int threads) {
    auto shared = [threads](int64_t n) { return divide_up(n, threads) * threads; };
    const int64_t k_bytes = kRowsWidth<T> * int64_t(sizeof(T));  // of one k of a tile
    const bool far_a = p_.a_col == 1 && p_.m * p_.k * int64_t(sizeof(T)) > kFarBytesOfA;
    const int64_t least = std::max<int64_t>(1, std::min(p_.k, pack_a_ && shards() > 1 ? kFoldChunk : kLeastChunk));
    parts_ = divide_up(tiles_, std::max<int64_t>(1, kPartBytes / (least * k_bytes)));
    const int64_t fits = kPartBytes / (divide_up(tiles_, parts_) * k_bytes) / kKBlock * kKBlock;
    chunk_k_ = std::clamp(fits, least, std::max(least, kMostChunk));
    if (far_rows_) chunk_k_ = std::min(least, rest_);
    else if (!pack_a_ && pack_b_) chunk_k_ = far_a ? std::min(p_.k, kFarChunk) : least;
    rows_first_ = !chunks() && tiles_ > 3 && p_.k * p_.n * int64_t(sizeof(T)) <= (across_ ? kAcrossBytes : kRowsBytes);
    if (rows_first_) {
      groups_ = 1;
      parts_ = std::min(tiles_, shared(parts_));
      return;
    }
    groups_ = divide_up(panels_, kGroupPanels);
    if (far_rows_) groups_ = std::min(groups_, divide_up(p_.m * p_.n * int64_t(sizeof(T)), kSumBytes));
    if (panels_ >= threads && !across_) groups_ = std::min(panels_, shared(groups_));
    else parts_ = std::min(tiles_, shared(parts_));
  }
  int columns(int64_t panel) const { return int(std::min<int64_t>(kPanel<T>, p_.n - panel * kPanel<T>)); }

  // K in [from, to) of tiles [begin, end).
  void pack_a(int64_t begin, int64_t end, int64_t from, int64_t to) const {
    for (int64_t t = begin; t < end; t++) {
      const int64_t i = row_of(t);
      const int n = int(std::min<int64_t>(kRowsWidth<T>, p_.m - i));  // whole vectors: rows of the next tile do no harm
      pack_panel(a_ + i * p_.a_row + from * p_.a_col, p_.a_col, p_.a_row, to - from, n, kRowsWidth<T>,
                 a_packed_ + t * a_tile_ + from * kRowsWidth<T>);
    }
  }
  // K in [from, to) of a panel.
  void pack_b(int64_t panel, int64_t from, int64_t to, T* packed) const {
    const T* b = b_ + from * p_.b_row + panel * kPanel<T> * p_.b_col;
    pack_panel(b, p_.b_row, p_.b_col, to - from, columns(panel), kPanel<T>, packed);
  }
  // K in [from, to) of some panels, each after the other; rows of B that lie in a page each are read in longer runs.
  void pack_own(int64_t panel, int64_t stop, int64_t from, int64_t to, T* own) const {
    for (int64_t step = wide_ > 1 ? kWideK : to - from, k = from; k < to; k += step)
      for (int64_t q = panel; q < stop; q++)
        pack_b(q, k, std::min(to, k + step), own + ((q - panel) * (to - from) + k - from) * kPanel<T>);
  }
  // Where k = 0 of a panel lies that no task packs for itself.
  const T* panel_of_b(int64_t panel) const { return pack_b_ ? b_packed_ + panel * b_panel_ : b_ + panel * kPanel<T>; }
  // The first k of a chain; chains of empty shards have no segments.
  int64_t first_k(int64_t chain) const {
    while (chain < order_.chains && order_.chain[chain].segments == 0) chain++;
    return chain < order_.chains ? order_.segment[order_.chain[chain].segment].a / a_step_ : p_.k;
  }
  // Panels from this one on that a tile passes at a time: whole ones, which it writes itself.
  int64_t strip(int64_t panel) const {
    if (form_ == TileForm::rows || across_) return 1;
    return std::clamp<int64_t>(p_.n / kPanel<T> - panel, 1, kStrip);
  }
  // Tiles from this one on that pass a panel in one call: of one height, with few K, so that their A lies in L1.
  int64_t tiles_beside(int64_t tile, int64_t end) const {
    return std::min(beside_, (tile < tall_ ? std::min(tall_, end) : end) - tile);
  }
  int64_t most_beside() const {
    if (form_ != TileForm::rows || chunks()) return 1;
    const int64_t height = rows_ + (tall_ > 0), row_bytes = std::max<int64_t>(1, p_.k) * int64_t(sizeof(T));
    return std::clamp<int64_t>(kBesideBytes / (height * row_bytes), 1, kMostRows / height);
  }
  static constexpr int64_t kMostRows = 4 * kTileRows;  // of a call
  static constexpr int kAskedRows = 3;                 // behind the last row, which a tile may ask for
  // Columns that the tile itself can't write: their sums go to its slot, and from there to C.
  bool is_edge(int64_t panel) const { return !across_ && columns(panel) % kLanes<T> != 0; }
  void run_tiles(int64_t tile, int64_t tiles, int64_t panel, int64_t count, const T* b, int64_t first, int64_t last,
                 T* stack) const {
    const int64_t at_once = is_edge(panel) ? 1 : tiles;
    for (const int64_t end = tile + tiles; tile < end; tile += at_once)
      run_tile(tile, at_once, panel, count, b, first, last, stack);
  }
  void run_tile(int64_t tile, int64_t tiles, int64_t panel, int64_t count, const T* b, int64_t first, int64_t last,
                T* stack) const {
    const int64_t i = row_of(tile), j = panel * kPanel<T>;
    const int height = int(row_of(tile + 1) - i), rows = height * int(tiles), n = columns(panel),
              width = count > 1 ? int(count * kPanel<T>) : n;
    TileCall<T> call{.tiles = tiles,
                     .a = pack_a_ ? a_packed_ + tile * a_tile_ : a_ + i * p_.a_row,
                     .a_step = a_step_,
                     .b = b,
                     .b_step = b_step_,
                     .panels = count,
                     .b_panel = pack_b_ ? b_panel_ : kPanel<T>,
                     .segment = order_.segment,
                     .first = order_.chain + first,
                     .last = order_.chain + last,
                     .stack = stack};
    const T* row[kMostRows + kAskedRows];
    if (form_ == TileForm::rows) {
      for (int r = 0; r < rows; r++) row[r] = call.a + r * p_.a_row;
      if (tiles > 1) std::fill_n(row + rows, kAskedRows, call.a);
      call.row = row;
    }
    const bool done = last == order_.chains, edge = is_edge(panel);
    T* const c = across_ ? c_ + j * p_.c_row + i : c_ + i * p_.c_row + j;
    const T* const bias = bias_ ? bias_ + (across_ ? i : j) : nullptr;
    T* out[kMostRows];
    alignas(kVectorBytes) T sums[kMostRows * kPanel<T>];  // of what lies across
    if (done && !edge) {
      call.out = out;
      for (int r = 0; r < rows; r++) out[r] = across_ ? sums + r * kPanel<T> : c + r * p_.c_row;
      if (!across_) {
        call.bias = bias, call.accumulate = p_.accumulate, call.far = stream_;
        if (form_ == TileForm::rows) ask_ahead(panel, rows, call);
        else call.ask = far_ && !stream_;
      }
    }
    const Block block = across_ ? Block{c - c_, p_.c_row, n, rows} : Block{c - c_, p_.c_row, rows, width};
    if (done && follow_ && far_) follow_.ask(block);
    tile_function<T>(form_of(tile, call), height, int(divide_up(n, kLanes<T>)))(call);
    if (done && across_) put_across(sums, rows, n, bias, p_.accumulate, c, p_.c_row);
    else if (done && edge)
      for (int r = 0; r < rows; r++) put_row(stack + r * kPanel<T>, n, bias, p_.accumulate, c + r * p_.c_row);
    if (done && follow_) follow_(block);
  }

  // What lies in other lines for each k is asked for by the first tile that reads it.
  TileForm form_of(int64_t tile, TileCall<T>& call) const {
    if (form_ == TileForm::rows || !chunks()) return form_;
    if (!pack_a_) call.a_ahead = kAhead * a_step_;
    if (!pack_b_ && far_rows_ && tile == 0) call.b_ahead = kPanel<T>;
    return call.a_ahead || call.b_ahead ? TileForm::columns_ahead : form_;
  }

  // Tiles ask for the outputs of the next tile, or panel where they pass these in turn; then for a share of its rows
  // too.
  void ask_ahead(int64_t panel, int rows, TileCall<T>& call) const {
    const int64_t back = rows_first_ ? (panels_ - 1) * kPanel<T> : 0;
    if (far_ && !stream_) {
      call.out_ahead = rows_first_ && panel + 1 < panels_ ? kPanel<T> : rows * p_.c_row - back;
      call.out_rows = out_rows_a_step(p_.k);
    }
    if (rows_first_ && far_a_) {
      const int64_t lines = divide_up(rows * p_.a_row * int64_t(sizeof(T)), kLineBytes * panels_);
      call.ahead = reinterpret_cast<const std::byte*>(call.a + rows * p_.a_row) + panel * lines * kLineBytes;
      call.ahead_lines = int(divide_up(lines, call.tiles * divide_up(p_.k, kStepK)));
    }
  }

  Matmul p_;
  std::span<const int64_t> shard_k_;  // the caller's: until the order is written
  const T *a_ = nullptr, *b_ = nullptr, *bias_ = nullptr;
  T* c_ = nullptr;
  Follow follow_;
  int64_t tiles_, rows_, tall_, panels_, parts_, groups_, chunk_k_, rest_, wide_, beside_, a_step_, b_step_,
      max_chains_, a_tile_, b_panel_, chunk_ = 0;
  bool across_, pack_a_, pack_b_, own_b_, rows_first_, far_, far_a_, far_rows_, stream_ = false;
  TileForm form_;
  T *a_packed_ = nullptr, *b_packed_ = nullptr;
  SumOrder order_;
};

}  // namespace matmul_detail
}  // namespace thalweg
