// tile_bf16.cpp: blocks of tiles on AMX, and the same sums by fma.
#include "tile_bf16.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "vector.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of the intrinsics' own undefined values
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#if defined(__linux__) && defined(__AVX512F__)
#include <sys/syscall.h>
#include <unistd.h>
#define TW_AMX 1
#endif
#endif

namespace thalweg {
namespace {

// Denormals count as zeros while it lives (where the processor has such a mode).
class FlushScope {
 public:
#if defined(__x86_64__)
  FlushScope() : old_(_mm_getcsr()) { _mm_setcsr(old_ | 0x8040); }
  ~FlushScope() { _mm_setcsr(old_); }

 private:
  unsigned old_;
#endif
};

using Pairs = Vector<uint32_t>;
TW_INLINE Vector<float> even(Pairs p) { return (Vector<float>)(p << 16); }
TW_INLINE Vector<float> odd(Pairs p) { return (Vector<float>)(p & 0xffff0000u); }
TW_INLINE Pairs pairs_at(const Bf16* p) { return (Pairs)load(reinterpret_cast<const float*>(p)); }

constexpr int kRows = kVectorBytes == 64 ? 8 : 4;  // of sums that are made at a time

// One group of a tile of A as floats: the even k and the odd k of every row.
struct Widened {
  alignas(64) float low[kSide][kSide], high[kSide][kSide];
  TW_INLINE void set(const Bf16* a, int64_t step) {
    for (int i = 0; i < kSide; i++) TW_UNROLL for (int k = 0; k < kSide; k += kLanes<float>) {
        const Pairs p = pairs_at(a + i * step + 2 * k);
        store(&low[i][k], even(p));
        store(&high[i][k], odd(p));
      }
  }
};
// kRows rows and a vector of columns of one group: sum += A B.
TW_INLINE void add_group(const Widened& a, int row, const Bf16* b, float* sum) {
  Vector<float> low[kRows] = {}, high[kRows] = {};
  for (int pair = 0; pair < kSide; pair++) {
    const Pairs bv = pairs_at(b + pair * 2 * kSide);
    const Vector<float> b_low = even(bv), b_high = odd(bv);
    TW_UNROLL for (int i = 0; i < kRows; i++) {
      fma_splat(low[i], a.low[row + i][pair], b_low);
      fma_splat(high[i], a.high[row + i][pair], b_high);
    }
  }
  TW_UNROLL for (int i = 0; i < kRows; i++) store(sum + i * kSide, load(sum + i * kSide) + (low[i] + high[i]));
}
TW_NOINLINE void emulate(const BlockBf16& c) {
  Widened a;
  for (int i = 0; i < c.tall; i++)
    for (int64_t g = 0; g < c.groups; g++) {
      a.set(c.a[i] + c.group[g], c.a_step);
      for (int j = 0; j < c.wide; j++) {
        const Bf16* b = c.b[j] + g * kOperandTile;
        float* tile = c.sum + (kBlockSide * i + j) * kSumTile;
        for (int row = 0; row < kSide; row += kRows)
          for (int v = 0; v < kSide; v += kLanes<float>) add_group(a, row, b + 2 * v, tile + row * kSide + v);
      }
    }
}
void emulate_block(const BlockBf16& c) {
  for (int i = 0; i < c.tall && c.fresh; i++) std::fill_n(c.sum + kBlockSide * i * kSumTile, c.wide * kSumTile, 0.0f);
  const FlushScope flush;
  emulate(c);
}

#if defined(__AVX512F__)
TW_INLINE Vector<float> widen(const Bf16* p) {
  return (Vector<float>)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16);
}
#elif defined(__AVX2__) && defined(__FMA__)
TW_INLINE Vector<float> widen(const Bf16* p) {
  return (Vector<float>)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16);
}
#else
TW_INLINE Vector<float> widen(const Bf16* p) {
  Vector<float> v;
  for (int l = 0; l < kLanes<float>; l++) v[l] = to_float(p[l]);
  return v;
}
#endif

TW_NOINLINE void lanes(const LanesBf16& c) {
  constexpr int W = kLanes<float>, V = kSide / W;
  const Bf16* a = c.a;
  for (int64_t i = 0; i < c.count; i++, a += c.a_next) {
    Vector<float> sum[V] = {};
    for (int64_t g = 0; g < c.groups; g++) {
      Vector<float> low[V] = {}, high[V] = {};
      auto add = [&](Vector<float>* chain, int64_t k) {
        TW_UNROLL for (int v = 0; v < V; v++)
            fma_to(chain[v], widen(a + c.a_at[k] + v * W), widen(c.b + k * c.b_step + v * W));
      };
      int64_t k = c.start[g];
      for (; k + 1 < c.start[g + 1]; k += 2) add(low, k), add(high, k + 1);
      if (k < c.start[g + 1]) add(low, k);
      TW_UNROLL for (int v = 0; v < V; v++) sum[v] += low[v] + high[v];
    }
    TW_UNROLL for (int v = 0; v < V; v++) store(c.sum + i * kSide + v * W, sum[v]);
  }
}

#if defined(TW_AMX)

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
  for (const int64_t *g = c.group, *end = g + c.groups; g != end; g++, b0 += kOperandTile, b1 += kOperandTile) {
    _tile_loadd(4, a0 + *g, a_step);
    _tile_loadd(6, b0, kRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kWide > 1) {
      _tile_loadd(7, b1, kRowBytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kTall > 1) {
      _tile_loadd(5, a1 + *g, a_step);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kTall > 1 && kWide > 1) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, tile(0), kRowBytes);
  if constexpr (kWide > 1) _tile_stored(1, tile(1), kRowBytes);
  if constexpr (kTall > 1) _tile_stored(2, tile(2), kRowBytes);
  if constexpr (kTall > 1 && kWide > 1) _tile_stored(3, tile(3), kRowBytes);
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
  const char* wish = std::getenv("THALWEG_AMX");
  if ((wish && *wish == '0') || !processor_has_amx()) return false;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0) return true;
  std::fprintf(stderr, "thalweg: the system does not grant AMX; products of bf16 take their slower form\n");
  return false;
}
std::atomic<bool> amx_allowed{true};

#endif

}  // namespace

#if defined(TW_AMX)

bool amx_used() {
  static const bool granted = amx_granted();
  return granted && amx_allowed.load(std::memory_order_relaxed);
}
void use_amx(bool allowed) { amx_allowed = allowed; }
bool bf16_conversion() {
  static const bool has = [] {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5);
  }();
  return has;
}

TileScope::TileScope() {
  if (!amx_used()) return;
  static constexpr TileShapes shapes = [] {
    TileShapes s;
    for (int t = 0; t < 8; t++) s.bytes[t] = 4 * kSide, s.rows[t] = kSide;
    return s;
  }();
  asm volatile("ldtilecfg %0" ::"m"(shapes));
}
TileScope::~TileScope() {
  if (amx_used()) asm volatile("tilerelease");
}

void run_block(const BlockBf16& c) {
  if (!amx_used()) return emulate_block(c);
  if (c.tall > 1) return c.wide > 1 ? amx_block<2, 2>(c) : amx_block<2, 1>(c);
  return c.wide > 1 ? amx_block<1, 2>(c) : amx_block<1, 1>(c);
}

#else

bool amx_used() { return false; }
void use_amx(bool) {}
bool bf16_conversion() { return false; }
TileScope::TileScope() {}
TileScope::~TileScope() {}
void run_block(const BlockBf16& c) { emulate_block(c); }

#endif

double flops_per_ns_bf16() {
  constexpr double kAmx = 1000, kWithout = kVectorBytes / 4 * 2.5;
  return amx_used() ? kAmx : kWithout;
}

void run_lanes(const LanesBf16& c) {
  const FlushScope flush;
  lanes(c);
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
