// pack_bf16.cpp: packing in vectors of AVX-512, with the processor's own rounding where it has it, and plain loops.
#include "pack_bf16.h"

#include <cstring>

#include "vector.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of the intrinsics' own undefined values
#endif

namespace thalweg {
namespace {

// f(p) with the typed pointer.
template <class F>
auto with_type(const NumbersBf16& n, F f) {
  return n.is_float ? f(static_cast<const float*>(n.p)) : f(static_cast<const Bf16*>(n.p));
}
template <class F>
auto with_type(const OutBf16& n, F f) {
  return n.is_float ? f(static_cast<float*>(n.p)) : f(static_cast<Bf16*>(n.p));
}
TW_INLINE Bf16 rounded(float x) { return to_bf16(x); }
TW_INLINE Bf16 rounded(Bf16 x) { return x; }

// Pairs of k as they lie in an operand: one after the other, or, in turned quads, (2, 0) and (3, 1) of each four.
TW_INLINE int64_t lower_of(bool turns, int64_t pair) { return turns ? pair / 2 * 4 + pair % 2 + 2 : 2 * pair; }
TW_INLINE int64_t upper_of(bool turns, int64_t pair) { return lower_of(turns, pair) + (turns ? -2 : 1); }
TW_INLINE int64_t place_of(bool turns, int64_t k) {
  constexpr int kPlaces[] = {1, 3, 0, 2};
  return turns ? k / 4 * 4 + kPlaces[k % 4] : k;
}
TW_INLINE int64_t place_in(PackForm form, bool turns, int64_t k, int64_t j) {  // in the tiles
  const int64_t tile = k / kGroup * kOperandTile, i = place_of(turns, k % kGroup);
  return tile + (form == PackForm::rows ? j * kGroup + i : i / 2 * 2 * kSide + 2 * j + i % 2);
}
template <class X>
void pack_plain(const X* from, int64_t k_step, int64_t j_step, int64_t count, int n, PackForm form, Bf16* to) {
  const int64_t all = (count + kGroup - 1) / kGroup * kGroup;
  const bool turns = turns_quads();
  if (count < all || n < kSide) std::memset(to, 0, all * kSide * sizeof(Bf16));
  for (int64_t k = 0; k < count; k++)
    for (int j = 0; j < n; j++) to[place_in(form, turns, k, j)] = rounded(from[k * k_step + j * j_step]);
}

#if defined(__AVX512F__)

// Two vectors of floats, rounded: `low` to the lower half.
template <bool kNative>
TW_INLINE __m512i round_pair(__m512 low, __m512 high) {
  if constexpr (kNative) {
    __m512i both;
    asm("vcvtne2ps2bf16 %2, %1, %0" : "=v"(both) : "v"(high), "v"(low));
    return both;
  } else {
    auto round = [](__m512 x) {  // to_bf16
      const __m512i bits = (__m512i)x, odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
      __m512i y = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
      const __m512i size = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
      const __mmask16 nan = _mm512_cmpgt_epi32_mask(size, _mm512_set1_epi32(0x7f800000));
      const __mmask16 small = _mm512_cmplt_epi32_mask(size, _mm512_set1_epi32(0x00800000));
      y = _mm512_mask_or_epi32(y, nan, bits, _mm512_set1_epi32(0x400000));
      y = _mm512_mask_and_epi32(y, small, bits, _mm512_set1_epi32(int(0x80000000)));
      return _mm512_cvtepi32_epi16(_mm512_srli_epi32(y, 16));
    };
    return _mm512_inserti64x4(_mm512_castsi256_si512(round(low)), round(high), 1);
  }
}
TW_INLINE __mmask16 first16(int n) { return __mmask16(n >= 16 ? 0xffff : (1u << n) - 1); }
TW_INLINE __mmask32 first32(int n) { return n >= 32 ? 0xffffffffu : (1u << n) - 1; }

// 32 numbers that follow each other, the first n of them.
template <bool kNative>
TW_INLINE __m512i load_along(const float* p, int n) {
  if (n >= 32) return round_pair<kNative>(_mm512_loadu_ps(p), _mm512_loadu_ps(p + 16));
  const __m512 low = _mm512_maskz_loadu_ps(first16(n), p);
  return round_pair<kNative>(low, n > 16 ? _mm512_maskz_loadu_ps(first16(n - 16), p + 16) : _mm512_setzero_ps());
}
template <bool kNative>
TW_INLINE __m512i load_along(const Bf16* p, int n) {
  return n >= 32 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16(first32(n), p);
}
// The first n of 16 numbers at p and at q, element by element: p0 q0 p1 q1 ...
template <bool kNative>
TW_INLINE __m512i load_across(const float* p, const float* q, __mmask16 first, __mmask16 second) {
  return round_pair<kNative>(_mm512_maskz_loadu_ps(first, p), _mm512_maskz_loadu_ps(second, q));
}
template <bool kNative>
TW_INLINE __m512i load_across(const Bf16* p, const Bf16* q, __mmask16 first, __mmask16 second) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi16(first, p)),
                            _mm256_maskz_loadu_epi16(second, q), 1);
}
TW_INLINE __m512i interleave_halves(__m512i v) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, v);
}

TW_INLINE __m512i turn(__m512i v) {
  return _mm512_shuffle_epi8(v, _mm512_set4_epi32(0x0b0a0f0e, 0x09080d0c, 0x03020706, 0x01000504));
}

inline constexpr int64_t kAhead = 8;  // groups of a row, or rows, that are asked for before they are packed

// Rows of vectors are either what is wanted or its transpose by pairs of k.
template <bool kNative, class X>
void pack_along(const X* from, int64_t j_step, int64_t count, int n, PackForm form, Bf16* to) {
  const bool turns = turns_quads();
  for (int64_t k = 0; k < count; k += kGroup, to += kOperandTile) {
    const int left = int(std::min(kGroup, count - k));
    Vector<float> v[kSide];
    TW_UNROLL for (int j = 0; j < kSide; j++) {
      const X* p = from + j * j_step + k;
      for (int64_t line = 0; line < kGroup; line += 64 / sizeof(X))
        __builtin_prefetch(p + kAhead * kGroup + line, 0, 2);
      v[j] = (Vector<float>)(j < n ? load_along<kNative>(p, left) : _mm512_setzero_si512());
    }
    if (turns) TW_UNROLL for (int j = 0; j < kSide; j++) v[j] = (Vector<float>)turn((__m512i)v[j]);
    if (form == PackForm::pairs) transpose<float>(v);
    TW_UNROLL for (int j = 0; j < kSide; j++) _mm512_store_si512(to + j * kGroup, (__m512i)v[j]);
  }
}
template <bool kNative, class X>
void pack_across(const X* from, int64_t k_step, int64_t count, int n, PackForm form, Bf16* to) {
  const __mmask16 columns = first16(n);
  const bool turns = turns_quads();
  for (int64_t k = 0; k < count; k += kGroup, to += kOperandTile) {
    Vector<float> v[kSide];
    TW_UNROLL for (int pair = 0; pair < kSide; pair++) {
      const int64_t low = k + lower_of(turns, pair), high = k + upper_of(turns, pair);
      v[pair] = (Vector<float>)interleave_halves(load_across<kNative>(from + low * k_step, from + high * k_step,
                                                                      low < count ? columns : __mmask16(0),
                                                                      high < count ? columns : __mmask16(0)));
    }
    if (form == PackForm::rows) transpose<float>(v);
    TW_UNROLL for (int j = 0; j < kSide; j++) _mm512_store_si512(to + j * kGroup, (__m512i)v[j]);
  }
}
// Tiles of B side by side: two rows of memory at a time, as long as all tiles need them.
template <bool kNative, class X>
void pack_beside(const X* from, int64_t k_step, int64_t count, int64_t n, Bf16* to, int64_t tile_step) {
  const bool turns = turns_quads();
  for (int64_t k = 0; k < count; k += kGroup, to += kOperandTile)
    for (int64_t pair = 0; pair < kGroup / 2; pair++) {
      const int64_t low = k + lower_of(turns, pair), high = k + upper_of(turns, pair);
      const X *low_ahead = from + (low + kAhead) * k_step, *high_ahead = from + (high + kAhead) * k_step;
      Bf16* tile = to + 2 * pair * kSide;
      for (int64_t j = 0; j < n; j += kSide, tile += tile_step) {
        __builtin_prefetch(low_ahead + j, 0, 2), __builtin_prefetch(high_ahead + j, 0, 2);
        const __mmask16 m = first16(int(std::min<int64_t>(kSide, n - j)));
        _mm512_store_si512(tile, interleave_halves(load_across<kNative>(
                                     from + low * k_step + j, from + high * k_step + j, low < count ? m : __mmask16(0),
                                     high < count ? m : __mmask16(0))));
      }
    }
}
template <bool kNative, class X>
void pack(const X* from, int64_t k_step, int64_t j_step, int64_t count, int n, PackForm form, Bf16* to) {
  if (k_step == 1) return pack_along<kNative>(from, j_step, count, n, form, to);
  if (j_step == 1) return pack_across<kNative>(from, k_step, count, n, form, to);
  pack_plain(from, k_step, j_step, count, n, form, to);
}
template <class X>
void pack(const X* from, int64_t k_step, int64_t j_step, int64_t count, int n, PackForm form, Bf16* to) {
  if (std::is_same_v<X, Bf16> || bf16_conversion()) return pack<true>(from, k_step, j_step, count, n, form, to);
  pack<false>(from, k_step, j_step, count, n, form, to);
}

template <class X>
bool pack_beside(const X* from, int64_t k_step, int64_t count, int64_t n, Bf16* to, int64_t tile_step) {
  if (std::is_same_v<X, Bf16> || bf16_conversion()) pack_beside<true>(from, k_step, count, n, to, tile_step);
  else pack_beside<false>(from, k_step, count, n, to, tile_step);
  return true;
}

template <bool kNative>
void round_all(const float* from, int64_t n, Bf16* to) {
  for (int64_t i = 0; i < n; i += 32) {
    const int left = int(std::min<int64_t>(32, n - i));
    const __m512i v = load_along<kNative>(from + i, left);
    if (left == 32) _mm512_storeu_si512(to + i, v);
    else _mm512_mask_storeu_epi16(to + i, first32(left), v);
  }
}
void round_all(const float* from, int64_t n, Bf16* to) {
  bf16_conversion() ? round_all<true>(from, n, to) : round_all<false>(from, n, to);
}

void spread(const Bf16* from, int64_t step, int64_t count, int64_t n, int64_t room, Bf16* to) {
  const int64_t whole = n / kGroup * kGroup;
  const __mmask32 rest = first32(int(n - whole));
  for (int64_t i = 0; i < count; i++, from += step, to += room) {
    for (int64_t j = 0; j < whole; j += kGroup) _mm512_store_si512(to + j, _mm512_loadu_si512(from + j));
    if (rest) _mm512_store_si512(to + whole, _mm512_maskz_loadu_epi16(rest, from + whole));
  }
}
void pair(const Bf16* from, int64_t k_step, int64_t pairs, int n, Bf16* to) {
  const __mmask16 m = first16(n);
  const bool turns = turns_quads();
  for (int64_t i = 0; i < pairs; i++, to += 2 * kSide) {
    const Bf16 *low = from + lower_of(turns, i) * k_step, *high = from + upper_of(turns, i) * k_step;
    _mm512_store_si512(to, interleave_halves(load_across<true>(low, high, m, m)));
  }
}
void turn_all(Bf16* p, int64_t n) {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) _mm512_storeu_si512(p + i, turn(_mm512_loadu_si512(p + i)));
  if (i == n) return;
  const __mmask32 rest = first32(int(n - i));
  _mm512_mask_storeu_epi16(p + i, rest, turn(_mm512_maskz_loadu_epi16(rest, p + i)));
}

TW_INLINE __m512 load_out(const float* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
TW_INLINE __m512 load_out(const Bf16* p, __mmask16 m) {
  return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16);
}
template <bool kNative>
TW_INLINE void store_out(float* p, __mmask32 m, __m512 low, __m512 high) {
  _mm512_mask_storeu_ps(p, __mmask16(m), low);
  if (m >> 16) _mm512_mask_storeu_ps(p + 16, __mmask16(m >> 16), high);
}
template <bool kNative>
TW_INLINE void store_out(Bf16* p, __mmask32 m, __m512 low, __m512 high) {
  _mm512_mask_storeu_epi16(p, m, round_pair<kNative>(low, high));
}
template <bool kNative, class X>
void put(const float* sum, int rows, int n, const float* bias, bool accumulate, X* to, int64_t step) {
  const __mmask32 m = first32(n);
  const __mmask16 first = first16(n), second = __mmask16(m >> 16);
  const __m512 b0 = bias ? _mm512_maskz_loadu_ps(first, bias) : _mm512_setzero_ps();
  const __m512 b1 = bias ? _mm512_maskz_loadu_ps(second, bias + 16) : _mm512_setzero_ps();
  const int64_t other = n > kSide ? kSumTile : 0;
  for (int i = 0; i < rows; i++, sum += kSide, to += step) {
    __m512 low = _mm512_load_ps(sum), high = _mm512_load_ps(sum + other);
    if (bias) low = b0 + low, high = b1 + high;
    if (accumulate) {
      low = load_out(to, first) + low;
      if (second) high = load_out(to + 16, second) + high;
    }
    store_out<kNative>(to, m, low, high);
  }
}
template <class X>
void put(const float* sum, int rows, int n, const float* bias, bool accumulate, X* to, int64_t step) {
  if (std::is_same_v<X, float> || bf16_conversion()) return put<true>(sum, rows, n, bias, accumulate, to, step);
  put<false>(sum, rows, n, bias, accumulate, to, step);
}

#else

template <class X>
void pack(const X* from, int64_t k_step, int64_t j_step, int64_t count, int n, PackForm form, Bf16* to) {
  pack_plain(from, k_step, j_step, count, n, form, to);
}
template <class X>
bool pack_beside(const X*, int64_t, int64_t, int64_t, Bf16*, int64_t) {
  return false;
}
void round_all(const float* from, int64_t n, Bf16* to) {
  for (int64_t i = 0; i < n; i++) to[i] = to_bf16(from[i]);
}
void spread(const Bf16* from, int64_t step, int64_t count, int64_t n, int64_t room, Bf16* to) {
  for (int64_t i = 0; i < count; i++, from += step, to += room) {
    std::memcpy(to, from, n * sizeof(Bf16));
    std::memset(to + n, 0, (room - n) * sizeof(Bf16));
  }
}
void pair(const Bf16* from, int64_t k_step, int64_t pairs, int n, Bf16* to) {
  for (int64_t i = 0; i < pairs; i++, from += 2 * k_step, to += 2 * kSide)
    for (int j = 0; j < kSide; j++) {
      to[2 * j] = j < n ? from[j] : Bf16{};
      to[2 * j + 1] = j < n ? from[k_step + j] : Bf16{};
    }
}
void turn_all(Bf16* p, int64_t n) {
  for (int64_t i = 0; i < n; i += 4) {
    const Bf16 q[4] = {p[i], p[i + 1], p[i + 2], p[i + 3]};
    for (int64_t k = 0; k < 4; k++) p[i + place_of(true, k)] = q[k];
  }
}
TW_INLINE float widened(float x) { return x; }
TW_INLINE float widened(Bf16 x) { return to_float(x); }
TW_INLINE void assign(float& to, float x) { to = x; }
TW_INLINE void assign(Bf16& to, float x) { to = to_bf16(x); }
template <class X>
void put(const float* sum, int rows, int n, const float* bias, bool accumulate, X* to, int64_t step) {
  for (int i = 0; i < rows; i++, to += step)
    for (int j = 0; j < n; j++) {
      const float x = sum[j / kSide * kSumTile + i * kSide + j % kSide], s = bias ? bias[j] + x : x;
      assign(to[j], accumulate ? widened(to[j]) + s : s);
    }
}

#endif

void put_far(const float* sum, int rows, int n, const float* bias, float* to, int64_t step) {
  constexpr int W = kLanes<float>;
  for (int i = 0; i < rows; i++, to += step)
    for (int j = 0; j < n; j += W) {
      const Vector<float> s = load(sum + j / kSide * kSumTile + i * kSide + j % kSide);
      store_far(to + j, bias ? load(bias + j) + s : s);
    }
}

}  // namespace

void pack_bf16(const OperandBf16& o, int64_t k, int64_t count, int64_t j, int n, PackForm form, Bf16* to) {
  with_type(o.numbers.from(k * o.k_step + j * o.j_step),
            [&](const auto* from) { pack(from, o.k_step, o.j_step, count, n, form, to); });
}
void pack_pairs_bf16(const OperandBf16& o, int64_t k, int64_t count, int64_t j, int64_t n, Bf16* to, int64_t step) {
  with_type(o.numbers.from(k * o.k_step + j * o.j_step), [&](const auto* from) {
    if (o.j_step == 1 && pack_beside(from, o.k_step, count, n, to, step)) return;
    for (int64_t t = 0; t < n; t += kSide, from += kSide * o.j_step, to += step)
      pack(from, o.k_step, o.j_step, count, int(std::min<int64_t>(kSide, n - t)), PackForm::pairs, to);
  });
}
void copy_bf16(const NumbersBf16& from, int64_t n, Bf16* to) {
  if (from.is_float) round_all(static_cast<const float*>(from.p), n, to);
  else std::memcpy(to, from.p, n * sizeof(Bf16));
}
void spread_bf16(const Bf16* from, int64_t step, int64_t count, int64_t n, int64_t room, Bf16* to) {
  spread(from, step, count, n, room, to);
}
void turn_bf16(Bf16* p, int64_t n) {
  if (turns_quads()) turn_all(p, n);
}
void pair_bf16(const Bf16* from, int64_t k_step, int64_t pairs, int n, Bf16* to) { pair(from, k_step, pairs, n, to); }
bool finite(const Bf16* p, int64_t n) {
  constexpr int kExponent = 0x7f80;
  int wild = 0;
#pragma omp simd reduction(| : wild)
  for (int64_t i = 0; i < n; i++) wild |= (p[i].bits & kExponent) == kExponent;
  return !wild;
}

void put_tile(const float* sum, int rows, int n, const float* bias, bool accumulate, const OutBf16& to, int64_t step,
              bool far) {
  if (far && to.is_float && n % kSide == 0 && !accumulate)
    return put_far(sum, rows, n, bias, static_cast<float*>(to.p), step);
  with_type(to, [&](auto* p) { put(sum, rows, n, bias, accumulate, p, step); });
}

}  // namespace thalweg
