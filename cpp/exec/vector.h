// vector.h: the vector registers of the instruction set that this library is compiled for, as GCC vector types.
// The only place that asks which instruction set that is. Every operation acts lane by lane, so the width of a vector
// never shows in a result.
#pragma once
#include <cstdint>
#include <type_traits>
#include <utility>

#include "../formula/number.h"

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace thalweg {

// kRegisters: how many vector registers there are; kTileRows: how many rows of kTileVectors accumulators fit in the
// registers, beside one row of B and a broadcast.
#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64, kRegisters = 32, kTileRows = 14;
#elif defined(__AVX2__) && defined(__FMA__)
inline constexpr int kVectorBytes = 32, kRegisters = 16, kTileRows = 6;
#else
inline constexpr int kVectorBytes = 16, kRegisters = 16, kTileRows = 4;
#endif
inline constexpr int kTileVectors = 2;

template <class T>
inline constexpr int kLanes = kVectorBytes / int(sizeof(T));
template <class T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(kVectorBytes)));
  typedef T Memory __attribute__((vector_size(kVectorBytes), aligned(sizeof(T)), may_alias));  // any element address
};
template <class T>
using Vector = typename VectorOf<T>::Type;

#define TW_INLINE inline __attribute__((always_inline))

template <class T>
TW_INLINE Vector<T> load(const T* p) {
  return *reinterpret_cast<const typename VectorOf<T>::Memory*>(p);
}
template <class T>
TW_INLINE void store(T* p, Vector<T> v) {
  *reinterpret_cast<typename VectorOf<T>::Memory*>(p) = v;
}

// f(n) for n in [0, kCount), written out: where accumulators are indexed, they must never have addresses.
template <int kCount, class F>
TW_INLINE void each(F f) {
  [&]<int... n>(std::integer_sequence<int, n...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, n>()), ...);
  }(std::make_integer_sequence<int, kCount>());
}

// The first n lanes, 0 < n <= kLanes; the others are zero, and not written. load_behind: the first n of v, the others
// from p, of which nothing else is read.
#if defined(__AVX512F__)
TW_INLINE Vector<float> load_first(const float* p, int n) {
  return (Vector<float>)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p);
}
TW_INLINE Vector<double> load_first(const double* p, int n) {
  return (Vector<double>)_mm512_maskz_loadu_pd(__mmask8((1u << n) - 1), p);
}
TW_INLINE Vector<float> load_behind(Vector<float> v, int n, const float* p) {
  return (Vector<float>)_mm512_mask_loadu_ps((__m512)v, __mmask16(~0u << n), p);
}
TW_INLINE Vector<double> load_behind(Vector<double> v, int n, const double* p) {
  return (Vector<double>)_mm512_mask_loadu_pd((__m512d)v, __mmask8(~0u << n), p);
}
TW_INLINE void store_first(float* p, Vector<float> v, int n) {
  _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), (__m512)v);
}
TW_INLINE void store_first(double* p, Vector<double> v, int n) {
  _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), (__m512d)v);
}
#elif defined(__AVX2__) && defined(__FMA__)
TW_INLINE __m256i first_lanes(const float*, int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TW_INLINE __m256i first_lanes(const double*, int n) {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
TW_INLINE Vector<float> load_first(const float* p, int n) {
  return (Vector<float>)_mm256_maskload_ps(p, first_lanes(p, n));
}
TW_INLINE Vector<double> load_first(const double* p, int n) {
  return (Vector<double>)_mm256_maskload_pd(p, first_lanes(p, n));
}
TW_INLINE Vector<float> load_behind(Vector<float> v, int n, const float* p) {
  const __m256i first = first_lanes(p, n);
  const __m256 rest = _mm256_maskload_ps(p, _mm256_xor_si256(first, _mm256_set1_epi32(-1)));
  return (Vector<float>)_mm256_blendv_ps(rest, (__m256)v, (__m256)first);
}
TW_INLINE Vector<double> load_behind(Vector<double> v, int n, const double* p) {
  const __m256i first = first_lanes(p, n);
  const __m256d rest = _mm256_maskload_pd(p, _mm256_xor_si256(first, _mm256_set1_epi32(-1)));
  return (Vector<double>)_mm256_blendv_pd(rest, (__m256d)v, (__m256d)first);
}
TW_INLINE void store_first(float* p, Vector<float> v, int n) { _mm256_maskstore_ps(p, first_lanes(p, n), (__m256)v); }
TW_INLINE void store_first(double* p, Vector<double> v, int n) {
  _mm256_maskstore_pd(p, first_lanes(p, n), (__m256d)v);
}
#else
template <class T>
TW_INLINE Vector<T> load_first(const T* p, int n) {
  Vector<T> v{};
  for (int l = 0; l < kLanes<T>; l++) v[l] = l < n ? p[l] : T(0);
  return v;
}
template <class T>
TW_INLINE Vector<T> load_behind(Vector<T> v, int n, const T* p) {
  for (int l = 0; l < kLanes<T>; l++) v[l] = l < n ? v[l] : p[l];
  return v;
}
template <class T>
TW_INLINE void store_first(T* p, Vector<T> v, int n) {
  for (int l = 0; l < kLanes<T>; l++)
    if (l < n) p[l] = v[l];
}
#endif

// Past the caches, to an address that is a multiple of kVectorBytes (see stream.h).
#if defined(__AVX512F__)
TW_INLINE void store_far(float* p, Vector<float> v) { _mm512_stream_ps(p, (__m512)v); }
TW_INLINE void store_far(double* p, Vector<double> v) { _mm512_stream_pd(p, (__m512d)v); }
#elif defined(__AVX2__) && defined(__FMA__)
TW_INLINE void store_far(float* p, Vector<float> v) { _mm256_stream_ps(p, (__m256)v); }
TW_INLINE void store_far(double* p, Vector<double> v) { _mm256_stream_pd(p, (__m256d)v); }
#elif defined(__SSE2__)
TW_INLINE void store_far(float* p, Vector<float> v) { _mm_stream_ps(p, (__m128)v); }
TW_INLINE void store_far(double* p, Vector<double> v) { _mm_stream_pd(p, (__m128d)v); }
#else
template <class T>
TW_INLINE void store_far(T* p, Vector<T> v) {
  store(p, v);
}
#endif

// pick: lane l is lane index[l] of a, or of b from kLanes on. behind: the first n lanes of v, the others of w.
template <class T>
struct IndexOf {
  using Lane = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef Lane Type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Index = typename IndexOf<T>::Type;
#if defined(__AVX512F__)
inline constexpr bool kPicksFast = true;
TW_INLINE Vector<float> pick(Vector<float> a, Index<float> index, Vector<float> b) {
  return (Vector<float>)_mm512_permutex2var_ps((__m512)a, (__m512i)index, (__m512)b);
}
TW_INLINE Vector<double> pick(Vector<double> a, Index<double> index, Vector<double> b) {
  return (Vector<double>)_mm512_permutex2var_pd((__m512d)a, (__m512i)index, (__m512d)b);
}
TW_INLINE Vector<float> behind(Vector<float> v, int n, Vector<float> w) {
  return (Vector<float>)_mm512_mask_blend_ps(__mmask16(~0u << n), (__m512)v, (__m512)w);
}
TW_INLINE Vector<double> behind(Vector<double> v, int n, Vector<double> w) {
  return (Vector<double>)_mm512_mask_blend_pd(__mmask8(~0u << n), (__m512d)v, (__m512d)w);
}
#else
inline constexpr bool kPicksFast = false;
#endif

// fma(a, b, c) = a b + c, rounded once; splat(s) = s in every lane.
#if defined(__AVX512F__)
TW_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
  return (Vector<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
TW_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
  return (Vector<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
TW_INLINE Vector<float> splat(float s) { return (Vector<float>)_mm512_set1_ps(s); }
TW_INLINE Vector<double> splat(double s) { return (Vector<double>)_mm512_set1_pd(s); }
#elif defined(__AVX2__) && defined(__FMA__)
TW_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
  return (Vector<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
TW_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
  return (Vector<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
TW_INLINE Vector<float> splat(float s) { return (Vector<float>)_mm256_set1_ps(s); }
TW_INLINE Vector<double> splat(double s) { return (Vector<double>)_mm256_set1_pd(s); }
#else
TW_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
  for (int l = 0; l < kLanes<float>; l++) c[l] = fma(a[l], b[l], c[l]);
  return c;
}
TW_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
  for (int l = 0; l < kLanes<double>; l++) c[l] = fma(a[l], b[l], c[l]);
  return c;
}
template <class T>
TW_INLINE Vector<T> splat(T s) {
  Vector<T> v;
  for (int l = 0; l < kLanes<T>; l++) v[l] = s;
  return v;
}
#endif

// c = fma(a, b, c) in the register of c. Written as the instruction itself: of fma() the compiler may keep the factor's
// register instead, and a tile that fills the register file then spills. fma_splat: a is one number in memory.
#if defined(__AVX512F__)
TW_INLINE void fma_to(Vector<float>& c, Vector<float> a, Vector<float> b) {
  asm("vfmadd231ps %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
}
TW_INLINE void fma_to(Vector<double>& c, Vector<double> a, Vector<double> b) {
  asm("vfmadd231pd %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
}
TW_INLINE void fma_splat(Vector<float>& c, const float& a, Vector<float> b) {
  asm("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(b), "m"(a));
}
TW_INLINE void fma_splat(Vector<double>& c, const double& a, Vector<double> b) {
  asm("vfmadd231pd %2%{1to8%}, %1, %0" : "+v"(c) : "v"(b), "m"(a));
}
#elif defined(__AVX2__) && defined(__FMA__)
TW_INLINE void fma_to(Vector<float>& c, Vector<float> a, Vector<float> b) {
  asm("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
}
TW_INLINE void fma_to(Vector<double>& c, Vector<double> a, Vector<double> b) {
  asm("vfmadd231pd %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
}
#else
template <class V>
TW_INLINE void fma_to(V& c, V a, V b) {
  c = fma(a, b, c);
}
#endif
#if !defined(__AVX512F__)
template <class T>
TW_INLINE void fma_splat(Vector<T>& c, const T& a, Vector<T> b) {
  fma_to(c, splat(a), b);
}
#endif

// Shuffles that are one instruction each: of every lane of 16 bytes of a and b the lower or the upper halves, element
// by element; of the lanes of a and b, one behind the other, the even or the odd ones.
template <class T, int upper, int... l>
TW_INLINE Vector<T> interleave(Vector<T> a, Vector<T> b, std::integer_sequence<int, l...>) {
  constexpr int n = kLanes<T>, lane = 16 / int(sizeof(T));
  return __builtin_shufflevector(a, b, (l / lane * lane + upper * lane / 2 + l % lane / 2 + l % 2 * n)...);
}
template <class T, int odd, int... l>
TW_INLINE Vector<T> every_other_lane(Vector<T> a, Vector<T> b, std::integer_sequence<int, l...>) {
  constexpr int lane = 16 / int(sizeof(T));
  return __builtin_shufflevector(a, b, ((2 * (l / lane) + odd) * lane + l % lane)...);
}

// A square of vectors, transposed in registers: squares of the size of a lane first, then the lanes.
template <class T>
TW_INLINE void interleave_rows(Vector<T>& a, Vector<T>& b) {
  constexpr std::make_integer_sequence<int, kLanes<T>> all{};
  const Vector<T> upper = interleave<T, 1>(a, b, all);
  a = interleave<T, 0>(a, b, all), b = upper;
}
TW_INLINE void transpose_lanes(Vector<double>* row) { interleave_rows<double>(row[0], row[1]); }
TW_INLINE void transpose_lanes(Vector<float>* row) {
  interleave_rows<float>(row[0], row[1]);
  interleave_rows<float>(row[2], row[3]);
  Vector<double> low[] = {Vector<double>(row[0]), Vector<double>(row[2])},
                 high[] = {Vector<double>(row[1]), Vector<double>(row[3])};
  transpose_lanes(low), transpose_lanes(high);
  row[0] = Vector<float>(low[0]), row[1] = Vector<float>(low[1]);
  row[2] = Vector<float>(high[0]), row[3] = Vector<float>(high[1]);
}
template <class T>
TW_INLINE void transpose(Vector<T>* row) {
  constexpr std::make_integer_sequence<int, kLanes<T>> all{};
  constexpr int kSquare = 16 / int(sizeof(T)), kSquares = kVectorBytes / 16;
#pragma GCC unroll 16
  for (int q = 0; q < kSquares; q++) transpose_lanes(row + q * kSquare);
#pragma GCC unroll 16
  for (int c = 0; c < kSquare; c++)
#pragma GCC unroll 16
    for (int half = 1; half < kSquares; half *= 2) {  // each time one more bit of the lane's number is that of the row
      Vector<T> next[kSquares];
#pragma GCC unroll 16
      for (int i = 0; i < kSquares / 2; i++) {
        const Vector<T> a = row[2 * i * kSquare + c], b = row[(2 * i + 1) * kSquare + c];
        next[i] = every_other_lane<T, 0>(a, b, all);
        next[kSquares / 2 + i] = every_other_lane<T, 1>(a, b, all);
      }
#pragma GCC unroll 16
      for (int i = 0; i < kSquares; i++) row[i * kSquare + c] = next[i];
    }
}

}  // namespace thalweg
