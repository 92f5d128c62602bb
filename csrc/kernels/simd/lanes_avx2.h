// 16 virtual lanes on AVX2 and FMA: two 256-bit registers.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace palo::PALO_SIMD_ISA {
namespace {

struct Floats {
  __m256 low, high;
};
struct Ints {
  __m256i low, high;
};

// Masks of partial loads and stores: as many ones as lanes, read from the middle.
alignas(64) constexpr int32_t MASKS[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

PALO_INLINE __m256i mask_of(int64_t n) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(MASKS + 16 - n));
}

PALO_INLINE Floats set(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
PALO_INLINE Floats load(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
// The first n lanes, 0 < n <= 16; zeros in the others. Reads nothing beyond p[n - 1].
PALO_INLINE Floats load_first(const float* p, int64_t n) {
  if (n >= 8) return {_mm256_loadu_ps(p), _mm256_maskload_ps(p + 8, mask_of(n - 8))};
  return {_mm256_maskload_ps(p, mask_of(n)), _mm256_setzero_ps()};
}
PALO_INLINE void store(float* p, Floats x) {
  _mm256_storeu_ps(p, x.low);
  _mm256_storeu_ps(p + 8, x.high);
}
PALO_INLINE void store_first(float* p, Floats x, int64_t n) {
  if (n >= 8) {
    _mm256_storeu_ps(p, x.low);
    _mm256_maskstore_ps(p + 8, mask_of(n - 8), x.high);
  } else {
    _mm256_maskstore_ps(p, mask_of(n), x.low);
  }
}

PALO_INLINE Floats operator+(Floats a, Floats b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
PALO_INLINE Floats operator-(Floats a, Floats b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
PALO_INLINE Floats operator*(Floats a, Floats b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
PALO_INLINE Floats operator/(Floats a, Floats b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
// a * b + c, rounded once.
PALO_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
// a > b ? a : b, so b where one is NaN.
PALO_INLINE Floats max(Floats a, Floats b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
// a < b ? a : b, so b where one is NaN.
PALO_INLINE Floats min(Floats a, Floats b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
PALO_INLINE Floats absolute(Floats a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
// a < 0 ? x : y
PALO_INLINE Floats where_negative(Floats a, Floats x, Floats y) {
  const __m256 zero = _mm256_setzero_ps();
  return {_mm256_blendv_ps(y.low, x.low, _mm256_cmp_ps(a.low, zero, _CMP_LT_OQ)),
          _mm256_blendv_ps(y.high, x.high, _mm256_cmp_ps(a.high, zero, _CMP_LT_OQ))};
}

PALO_INLINE __m128 fold(Floats x, bool is_max) {
  const __m256 eight = is_max ? _mm256_max_ps(x.low, x.high) : _mm256_add_ps(x.low, x.high);
  const __m128 low = _mm256_castps256_ps128(eight), high = _mm256_extractf128_ps(eight, 1);
  const __m128 four = is_max ? _mm_max_ps(low, high) : _mm_add_ps(low, high);
  const __m128 swapped = _mm_movehl_ps(four, four);
  const __m128 two = is_max ? _mm_max_ps(four, swapped) : _mm_add_ps(four, swapped);
  const __m128 odd = _mm_movehdup_ps(two);
  return is_max ? _mm_max_ss(two, odd) : _mm_add_ss(two, odd);
}
// Lane i with i + 8, then i + 4, i + 2, i + 1: the same tree on every instruction set.
PALO_INLINE float sum_of_lanes(Floats x) {
  return _mm_cvtss_f32(fold(x, false));
}
PALO_INLINE float max_of_lanes(Floats x) {
  return _mm_cvtss_f32(fold(x, true));
}
PALO_INLINE float square_root(float x) {
  return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

PALO_INLINE Ints set_ints(int32_t x) {
  return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
PALO_INLINE Ints operator+(Ints a, Ints b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
// Nearest integer, ties to even.
PALO_INLINE Ints round_to_ints(Floats x) {
  return {_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high)};
}
PALO_INLINE Floats to_floats(Ints x) {
  return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)};
}
// The floats whose bits the lanes are.
PALO_INLINE Floats as_floats(Ints x) {
  return {_mm256_castsi256_ps(x.low), _mm256_castsi256_ps(x.high)};
}
// 2^x for x in [-126, 127]: the exponent field of a float.
PALO_INLINE Floats power_of_two(Ints x) {
  const Ints biased = x + set_ints(127);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(biased.low, 23)),
          _mm256_castsi256_ps(_mm256_slli_epi32(biased.high, 23))};
}
// x * 2^n where neither is denormal.
PALO_INLINE Floats times_power_of_two(Floats x, Ints n) {
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.low), _mm256_slli_epi32(n.low, 23))),
          _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.high), _mm256_slli_epi32(n.high, 23)))};
}
PALO_INLINE int32_t sum_of_lanes(Ints x) {
  const __m256i eight = _mm256_add_epi32(x.low, x.high);
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

// The lowest 16 bits of each lane.
PALO_INLINE void store_int16(uint8_t* p, Ints x) {
  const __m256i mixed = _mm256_packs_epi32(x.low, x.high);  // 0-3, 8-11, 4-7, 12-15
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(mixed, 0xD8));
}
// The lowest byte of each lane.
PALO_INLINE void store_bytes(uint8_t* p, Ints x) {
  const __m256i byte = _mm256_set1_epi32(0xFF);
  const __m256i mixed = _mm256_packus_epi32(_mm256_and_si256(x.low, byte), _mm256_and_si256(x.high, byte));
  const __m256i sorted = _mm256_permute4x64_epi64(mixed, 0xD8);
  const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(sorted), _mm256_extracti128_si256(sorted, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}
// Bytes (low_i, high_i) side by side: 16 pairs of the lowest bytes of two vectors.
PALO_INLINE void store_pairs(uint8_t* p, Ints first, Ints second) {
  const __m256i byte = _mm256_set1_epi32(0xFF);
  const __m256i low =
      _mm256_or_si256(_mm256_and_si256(first.low, byte), _mm256_slli_epi32(_mm256_and_si256(second.low, byte), 8));
  const __m256i high =
      _mm256_or_si256(_mm256_and_si256(first.high, byte), _mm256_slli_epi32(_mm256_and_si256(second.high, byte), 8));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xD8));
}
PALO_INLINE __m256i join_bytes(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i byte = _mm256_set1_epi32(0xFF);
  const __m256i low = _mm256_or_si256(_mm256_and_si256(a, byte), _mm256_slli_epi32(_mm256_and_si256(b, byte), 8));
  const __m256i high = _mm256_or_si256(_mm256_slli_epi32(_mm256_and_si256(c, byte), 16), _mm256_slli_epi32(d, 24));
  return _mm256_or_si256(low, high);
}
// 16 quads of the lowest bytes of four vectors.
PALO_INLINE void store_quads(uint8_t* p, const Ints q[4]) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), join_bytes(q[0].low, q[1].low, q[2].low, q[3].low));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p) + 1, join_bytes(q[0].high, q[1].high, q[2].high, q[3].high));
}

// --- Quantized blocks: a lane holds four bytes. ---

PALO_INLINE Ints load_ints(const uint8_t* p) {
  const __m256i* at = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
}
PALO_INLINE void store_ints(uint8_t* p, Ints x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.low);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p) + 1, x.high);
}
PALO_INLINE Ints operator&(Ints a, Ints b) {
  return {_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)};
}
PALO_INLINE Ints operator|(Ints a, Ints b) {
  return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)};
}
PALO_INLINE Ints shift_left(Ints x, int64_t n) {
  return {_mm256_slli_epi32(x.low, static_cast<int>(n)), _mm256_slli_epi32(x.high, static_cast<int>(n))};
}
// Zeros come in from above.
PALO_INLINE Ints shift_right(Ints x, int64_t n) {
  return {_mm256_srli_epi32(x.low, static_cast<int>(n)), _mm256_srli_epi32(x.high, static_cast<int>(n))};
}
// Byte `i` of each lane as a signed number.
PALO_INLINE Ints signed_byte(Ints x, int64_t i) {
  const Ints moved = shift_left(x, 24 - 8 * i);
  return {_mm256_srai_epi32(moved.low, 24), _mm256_srai_epi32(moved.high, 24)};
}
// 16 values of IEEE 754 binary16.
PALO_INLINE Floats load_halves(const uint8_t* p) {
  const __m128i* at = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128(at + 1))};
}
// Rounds to nearest, ties to even.
PALO_INLINE void store_halves(uint8_t* p, Floats x) {
  __m128i* at = reinterpret_cast<__m128i*>(p);
  _mm_storeu_si128(at, _mm256_cvtps_ph(x.low, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(at + 1, _mm256_cvtps_ph(x.high, _MM_FROUND_TO_NEAREST_INT));
}

// --- Pixels: a lane holds a byte, unsigned. ---

PALO_INLINE Ints operator*(Ints a, Ints b) {
  return {_mm256_mullo_epi32(a.low, b.low), _mm256_mullo_epi32(a.high, b.high)};
}
PALO_INLINE Ints load_bytes(const uint8_t* p) {
  return {_mm256_cvtepu8_epi32(_mm_loadu_si64(p)), _mm256_cvtepu8_epi32(_mm_loadu_si64(p + 8))};
}
// p[i / 4] in lane i.
PALO_INLINE Ints load_spread(const int32_t* p) {
  const __m256i four = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {_mm256_permutevar8x32_epi32(four, _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1)),
          _mm256_permutevar8x32_epi32(four, _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3))};
}
// Each lane's x >> RESAMPLING_BITS as a byte, 0 or 255 where it is beyond them.
PALO_INLINE void store_levels(uint8_t* p, Ints x) {
  const __m256i low = _mm256_srai_epi32(x.low, RESAMPLING_BITS), high = _mm256_srai_epi32(x.high, RESAMPLING_BITS);
  const __m256i sorted = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
  const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(sorted), _mm256_extracti128_si256(sorted, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

using Quad = __m256i;

PALO_INLINE Quad load_quad(const uint8_t* p) {
  int32_t quad;
  __builtin_memcpy(&quad, p, sizeof(quad));
  return _mm256_set1_epi32(quad);
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
