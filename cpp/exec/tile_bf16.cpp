// tile_bf16.cpp: blocks of tiles on AMX, and the same sums by dot products of pairs and by fma.
#include "tile_bf16.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <tuple>

#include "flush.h"
#include "tile_dots.h"
#include "vector.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of the intrinsics' own undefined values
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#if defined(TW_UNITS)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace thalweg {
namespace {

TW_INLINE Vector<float> even(Pairs p) { return (Vector<float>)(p << 16); }
TW_INLINE Vector<float> odd(Pairs p) { return (Vector<float>)(p & 0xffff0000u); }

constexpr int kRows = kVectorBytes == 64 ? 8 : 4;  // of sums that are made at a time

// One group of a tile of A as floats: the even k and the odd k of every row. add() adds its products with a vector of
// columns to kRows rows of sums.
class Widened {
 public:
  TW_INLINE void set(const Bf16* a, int64_t step, int64_t half) {
    for (int i = 0; i < kSide; i++) TW_UNROLL for (int k = 0; k < kSide; k += kLanes<float>) {
        const Pairs p = pairs_at(a + i / kHalfSide * half + i % kHalfSide * step + 2 * k);
        store(&low_[i][k], even(p));
        store(&high_[i][k], odd(p));
      }
  }
  TW_INLINE void add(int row, const Bf16* b, float* sum) const {
    Vector<float> low[kRows] = {}, high[kRows] = {};
    for (int pair = 0; pair < kSide; pair++) {
      const Pairs bv = pairs_at(b + pair * 2 * kSide);
      const Vector<float> b_low = even(bv), b_high = odd(bv);
      TW_UNROLL for (int i = 0; i < kRows; i++) {
        fma_splat(low[i], low_[row + i][pair], b_low);
        fma_splat(high[i], high_[row + i][pair], b_high);
      }
    }
    TW_UNROLL for (int i = 0; i < kRows; i++) store(sum + i * kSide, load(sum + i * kSide) + (low[i] + high[i]));
  }

 private:
  alignas(64) float low_[kSide][kSide], high_[kSide][kSide];
};

void clear(const BlockBf16& c) {
  for (int i = 0; i < c.tall && c.fresh; i++) std::fill_n(c.sum + kBlockSide * i * kSumTile, c.wide * kSumTile, 0.0f);
}
TW_NOINLINE void fma_block(const BlockBf16& c) {
  clear(c);
  const FlushScope flush;
  Widened a;
  for (int i = 0; i < c.tall; i++)
    for (int64_t g = 0; g < c.groups; g++) {
      a.set(c.a[i] + c.group[g].at, c.a_step, c.half[i]);
      for (int j = 0; j < c.wide; j++) {
        const Bf16* b = c.b[j] + g * kOperandTile;
        float* tile = c.sum + (kBlockSide * i + j) * kSumTile;
        for (int row = 0; row < kSide; row += kRows)
          for (int v = 0; v < kSide; v += kLanes<float>) a.add(row, b + 2 * v, tile + row * kSide + v);
      }
    }
}

#if defined(TW_UNITS)

struct TileShapes {  // of ldtilecfg
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tile registers: 0 to 3 sums, 4 and 5 rows of A, 6 and 7 columns of B. The macros want their numbers as literals.
template <int kTall, int kWide>
TW_NOINLINE void amx_block(const BlockBf16& c) {
  constexpr int64_t kRowBytes = 4 * kSide;
  const int64_t a_step = c.a_step * int64_t(sizeof(Bf16));
  asm volatile("" ::: "memory");
  auto tile = [&](int t) { return c.sum + t * kSumTile; };
  if (c.fresh) {
    _tile_zero(0);
    if constexpr (kWide > 1) _tile_zero(1);
    if constexpr (kTall > 1) _tile_zero(2);
    if constexpr (kTall > 1 && kWide > 1) _tile_zero(3);
  } else {
    _tile_loadd(0, tile(0), kRowBytes);
    if constexpr (kWide > 1) _tile_loadd(1, tile(1), kRowBytes);
    if constexpr (kTall > 1) _tile_loadd(2, tile(2), kRowBytes);
    if constexpr (kTall > 1 && kWide > 1) _tile_loadd(3, tile(3), kRowBytes);
  }
  const Bf16 *a0 = c.a[0], *a1 = c.a[1], *b0 = c.b[0], *b1 = c.b[1];
  for (const GroupBf16 *g = c.group, *end = g + c.groups; g != end; g++, b0 += kOperandTile, b1 += kOperandTile) {
    _tile_loadd(4, a0 + g->at, a_step);
    _tile_loadd(6, b0, kRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kWide > 1) {
      _tile_loadd(7, b1, kRowBytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kTall > 1) {
      _tile_loadd(5, a1 + g->at, a_step);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kTall > 1 && kWide > 1) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, tile(0), kRowBytes);
  if constexpr (kWide > 1) _tile_stored(1, tile(1), kRowBytes);
  if constexpr (kTall > 1) _tile_stored(2, tile(2), kRowBytes);
  if constexpr (kTall > 1 && kWide > 1) _tile_stored(3, tile(3), kRowBytes);
}

bool processor_has_dots() {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5);
}
bool processor_has_amx() {
  unsigned a, b, c, d, low, high;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16Bit = 1u << 22, kTileBit = 1u << 24, kTileState = 3u << 17;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (d & kBf16Bit) && (d & kTileBit) && (low & kTileState) == kTileState;
}
// The tile registers are given to a process that asks for them, once.
bool amx_granted() {
  if (!processor_has_amx()) return false;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0) return true;
  std::fprintf(stderr, "thalweg: the system does not grant AMX; products of bf16 take their slower form\n");
  return false;
}
bool has(UnitBf16 unit) {
  static const bool dots = processor_has_dots(), amx = amx_granted();
  return unit == UnitBf16::fma || (unit == UnitBf16::amx ? amx : dots);
}

// A block of numbers whose sums show the order of every addition.
struct Trial {
  static constexpr int kGroups = 4;
  static constexpr int64_t kHalf = kHalfSide * kGroups * kGroup;
  alignas(64) Bf16 a[kBlock * kGroups * kGroup], b[kBlockSide][kGroups * kOperandTile];
  alignas(64) float sum[kBlockSums];
  GroupBf16 group[kGroups];
  BlockBf16 block;
  Trial()
      : block{{a, a + kSide * kGroups * kGroup},
              kGroups * kGroup,
              {kHalf, kHalf},
              {b[0], b[1]},
              group,
              kGroups,
              2,
              2,
              sum,
              true} {
    uint32_t state = 1;
    const auto number = [&state] {  // of any sign, between 2^-4 and 2^4
      state = state * 1664525u + 1013904223u;
      return Bf16{uint16_t((state >> 16 & 0x807f) | (123u + (state >> 8) % 8) << 7)};
    };
    std::generate(std::begin(a), std::end(a), number);
    for (auto& tile : b) std::generate(std::begin(tile), std::end(tile), number);
    for (int g = 0; g < kGroups; g++) group[g] = {g * kGroup, kGroup};
  }
  void turn_quads() {
    for (size_t i = 0; i < std::size(a); i += 4)
      std::copy_n(std::array{a[i + 2], a[i], a[i + 3], a[i + 1]}.data(), 4, a + i);
    for (auto& tile : b)
      for (int64_t i = 0; i < int64_t(std::size(tile)); i += 4 * kSide)
        for (int64_t j = i; j < i + 2 * kSide; j += 2) {
          Bf16 *p = tile + j, *q = p + 2 * kSide;
          std::tie(p[0], p[1], q[0], q[1]) = std::tuple{q[0], p[0], q[1], p[1]};
        }
  }
  double seconds(void (*run)(const BlockBf16&)) {
    using Clock = std::chrono::steady_clock;
    double best = 1;
    for (int k = 0; k < 7; k++) {
      const auto start = Clock::now();
      run(block);
      best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
    }
    return best;
  }
};
// The processor's dot products are as they must be, and worth it.
bool dots_are_better() {
  if (!has(UnitBf16::dots)) return false;
  Trial by_fma, by_dots;
  by_dots.turn_quads();
  const double fma = by_fma.seconds(fma_block), dots = by_dots.seconds(dots_block);
  return dots < fma && !std::memcmp(by_fma.sum, by_dots.sum, sizeof by_fma.sum);
}
UnitBf16 first_choice() {
  static constexpr const char* kNames[] = {"fma", "dots", "amx"};
  if (const char* wish = std::getenv("THALWEG_BF16")) {
    for (int u = 0; u < 3; u++)
      if (!std::strcmp(wish, kNames[u]) && has(UnitBf16(u))) return UnitBf16(u);
    std::fprintf(stderr, "thalweg: THALWEG_BF16 is '%s': expected fma, or dots or amx where the processor has them\n",
                 wish);
  }
  return has(UnitBf16::amx) ? UnitBf16::amx : dots_are_better() ? UnitBf16::dots : UnitBf16::fma;
}
std::atomic<UnitBf16>& unit() {
  static std::atomic<UnitBf16> chosen{first_choice()};
  return chosen;
}

#endif

}  // namespace

#if defined(TW_UNITS)

UnitBf16 unit_bf16() { return unit().load(std::memory_order_relaxed); }
bool choose_bf16(UnitBf16 wanted) {
  if (has(wanted)) unit() = wanted;
  return has(wanted);
}
bool bf16_conversion() { return has(UnitBf16::dots); }

TileScope::TileScope() {
  if (unit_bf16() != UnitBf16::amx) return;
  static constexpr TileShapes shapes = [] {
    TileShapes s;
    for (int t = 0; t < 8; t++) s.bytes[t] = 4 * kSide, s.rows[t] = kSide;
    return s;
  }();
  asm volatile("ldtilecfg %0" ::"m"(shapes));
}
TileScope::~TileScope() {
  if (unit_bf16() == UnitBf16::amx) asm volatile("tilerelease");
}

void run_block(const BlockBf16& c) {
  if (unit_bf16() == UnitBf16::fma) return fma_block(c);
  if (unit_bf16() == UnitBf16::dots) return dots_block(c);
  if (c.tall > 1) return c.wide > 1 ? amx_block<2, 2>(c) : amx_block<2, 1>(c);
  return c.wide > 1 ? amx_block<1, 2>(c) : amx_block<1, 1>(c);
}

bool run_folded(const BlockBf16& c, int rows, const GroupRange* leaf, int64_t leaves) {
  return unit_bf16() == UnitBf16::dots && dots_folded(c, rows, leaf, leaves);
}

#else

UnitBf16 unit_bf16() { return UnitBf16::fma; }
bool choose_bf16(UnitBf16 wanted) { return wanted == UnitBf16::fma; }
bool bf16_conversion() { return false; }
TileScope::TileScope() {}
TileScope::~TileScope() {}
void run_block(const BlockBf16& c) { fma_block(c); }
bool run_folded(const BlockBf16&, int, const GroupRange*, int64_t) { return false; }

#endif

double flops_per_ns_bf16() {
  constexpr double kFma = kVectorBytes / 4 * 2.5;
  static constexpr double kUnits[] = {kFma, 1.75 * kFma, 1000};
  return kUnits[int(unit_bf16())];
}

namespace {

// kAdds: how many slots are added, 0 for any number.
template <int kAdds>
void fold(int adds, float* slot, const float* sum) {
  constexpr int W = kLanes<float>;
  if constexpr (kAdds > 0) adds = kAdds;
  _Pragma("GCC unroll 4") for (int i = 0; i < kBlockSums; i += W) {
    Vector<float> v = load(sum + i);
    for (int m = adds; m-- > 0;) v = load(slot + m * kBlockSums + i) + v;
    store(slot + i, v);
  }
}

}  // namespace

void fold_leaf(LeafBf16 leaf, float* stack, const float* sum) {
  float* slot = stack + leaf.slot * kBlockSums;
  if (leaf.adds == 1) fold<1>(1, slot, sum);
  else if (leaf.adds == 2) fold<2>(2, slot, sum);
  else if (leaf.adds > 2) fold<0>(leaf.adds, slot, sum);
}

}  // namespace thalweg
