// 16 lanes as one 512-bit register, with the dot product of unsigned and signed bytes (vpdpbusd).
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace palo::PALO_SIMD_ISA {
namespace {

struct Floats {
  __m512 all;
};
struct Ints {
  __m512i all;
};

PALO_INLINE __mmask16 mask_of(int64_t n) {
  return static_cast<__mmask16>((1u << n) - 1);
}

PALO_INLINE Floats set(float x) {
  return {_mm512_set1_ps(x)};
}
PALO_INLINE Floats load(const float* p) {
  return {_mm512_loadu_ps(p)};
}
// The first n lanes, 0 < n <= 16; zeros in the others. Reads nothing beyond p[n - 1].
PALO_INLINE Floats load_first(const float* p, int64_t n) {
  return {_mm512_maskz_loadu_ps(mask_of(n), p)};
}
PALO_INLINE void store(float* p, Floats x) {
  _mm512_storeu_ps(p, x.all);
}
PALO_INLINE void store_first(float* p, Floats x, int64_t n) {
  _mm512_mask_storeu_ps(p, mask_of(n), x.all);
}

PALO_INLINE Floats operator+(Floats a, Floats b) {
  return {_mm512_add_ps(a.all, b.all)};
}
PALO_INLINE Floats operator-(Floats a, Floats b) {
  return {_mm512_sub_ps(a.all, b.all)};
}
PALO_INLINE Floats operator*(Floats a, Floats b) {
  return {_mm512_mul_ps(a.all, b.all)};
}
PALO_INLINE Floats operator/(Floats a, Floats b) {
  return {_mm512_div_ps(a.all, b.all)};
}
// a * b + c, rounded once.
PALO_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return {_mm512_fmadd_ps(a.all, b.all, c.all)};
}
// a > b ? a : b, so b where one is NaN.
PALO_INLINE Floats max(Floats a, Floats b) {
  return {_mm512_max_ps(a.all, b.all)};
}
// a < b ? a : b, so b where one is NaN.
PALO_INLINE Floats min(Floats a, Floats b) {
  return {_mm512_min_ps(a.all, b.all)};
}
PALO_INLINE Floats absolute(Floats a) {
  return {_mm512_abs_ps(a.all)};
}
// a < 0 ? x : y
PALO_INLINE Floats where_negative(Floats a, Floats x, Floats y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.all, _mm512_setzero_ps(), _CMP_LT_OQ), y.all, x.all)};
}

PALO_INLINE __m128 fold(Floats x, bool is_max) {
  const __m256 first = _mm512_castps512_ps256(x.all), second = _mm512_extractf32x8_ps(x.all, 1);
  const __m256 eight = is_max ? _mm256_max_ps(first, second) : _mm256_add_ps(first, second);
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
  return {_mm512_set1_epi32(x)};
}
PALO_INLINE Ints operator+(Ints a, Ints b) {
  return {_mm512_add_epi32(a.all, b.all)};
}
// Nearest integer, ties to even.
PALO_INLINE Ints round_to_ints(Floats x) {
  return {_mm512_cvtps_epi32(x.all)};
}
PALO_INLINE Floats to_floats(Ints x) {
  return {_mm512_cvtepi32_ps(x.all)};
}
// The floats whose bits the lanes are.
PALO_INLINE Floats as_floats(Ints x) {
  return {_mm512_castsi512_ps(x.all)};
}
// 2^x for x in [-126, 127]: the exponent field of a float.
PALO_INLINE Floats power_of_two(Ints x) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32((x + set_ints(127)).all, 23))};
}
// x * 2^n where neither is denormal.
PALO_INLINE Floats times_power_of_two(Floats x, Ints n) {
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x.all), _mm512_slli_epi32(n.all, 23)))};
}
PALO_INLINE int32_t sum_of_lanes(Ints x) {
  return _mm512_reduce_add_epi32(x.all);
}
// The lowest byte of each lane.
PALO_INLINE void store_bytes(uint8_t* p, Ints x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x.all));
}

constexpr int64_t LINEAR_ROWS = 6;
constexpr int64_t PANEL_VECTORS = 2;

// Few rows of blocks: 8 x 2 integer sums, 2 weights, 1 input, 2 constants; what is left holds some of the float sums.
constexpr int64_t DIRECT_ROWS = 8;
constexpr int64_t DIRECT_VECTORS = 2;
constexpr int64_t QUAD_PREFETCH_ROWS = 8;
// Many rows: 7 x 2 integer and float sums each, 2 weights, 1 input.
constexpr int64_t UNPACKED_ROWS = 7;

// 6 x 4 integer sums, 4 weights, 1 input: 29 of 32 registers. The float sums stay in memory: with both in registers, 6
// x 2, loads take more of the time.
constexpr int64_t Q8_ROWS = 6;
constexpr int64_t Q8_VECTORS = 4;
constexpr int64_t Q8_STEP = 4;  // inputs per dot product of a lane
constexpr int64_t Q8_INPUT_BYTES = 1;
// Weights are stored as q + 128, the instruction's unsigned operand; a row stores the correction for it.
constexpr int32_t Q8_WEIGHT_OFFSET = 128;
constexpr bool Q8_SUMS_IN_REGISTERS = true;

using Q8Weights = Ints;
using Q8Input = __m512i;

// p [16 outputs][4 inputs] uint8
PALO_INLINE Q8Weights load_q8_weights(const uint8_t* p) {
  return {_mm512_load_si512(p)};
}
PALO_INLINE Q8Input load_q8_input(const uint8_t* p) {
  int32_t quad;
  __builtin_memcpy(&quad, p, sizeof(quad));
  return _mm512_set1_epi32(quad);
}
PALO_INLINE void add_dot(Ints& sums, Q8Weights w, Q8Input x) {
  sums.all = _mm512_dpbusd_epi32(sums.all, w.all, x);
  PALO_KEEP_IN_REGISTER(sums.all);
}
#define PALO_HAS_Q8_CHUNKS
// The bytes of four vectors; returns their sums, four bytes to a lane.
PALO_INLINE Ints store_q8_chunk(uint8_t* p, const Ints q[4]) {
  const __m512i first = _mm512_packs_epi32(q[0].all, q[1].all), second = _mm512_packs_epi32(q[2].all, q[3].all);
  // Vectors were packed within 128 bits.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i bytes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(first, second));
  _mm512_storeu_si512(p, bytes);
  return {_mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), bytes)};
}
// 16 quads of the lowest bytes of four vectors.
PALO_INLINE void store_q8_weights(uint8_t* p, const Ints q[Q8_STEP]) {
  const __m512i byte = _mm512_set1_epi32(0xFF);
  const __m512i low =
      _mm512_or_si512(_mm512_and_si512(q[0].all, byte), _mm512_slli_epi32(_mm512_and_si512(q[1].all, byte), 8));
  const __m512i high =
      _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(q[2].all, byte), 16), _mm512_slli_epi32(q[3].all, 24));
  _mm512_storeu_si512(p, _mm512_or_si512(low, high));
}

// --- Quantized blocks: a lane holds four bytes. ---

PALO_INLINE Ints load_ints(const uint8_t* p) {
  return {_mm512_loadu_si512(p)};
}
PALO_INLINE void store_ints(uint8_t* p, Ints x) {
  _mm512_storeu_si512(p, x.all);
}
PALO_INLINE Ints operator&(Ints a, Ints b) {
  return {_mm512_and_si512(a.all, b.all)};
}
PALO_INLINE Ints operator|(Ints a, Ints b) {
  return {_mm512_or_si512(a.all, b.all)};
}
PALO_INLINE Ints shift_left(Ints x, int64_t n) {
  return {_mm512_sllv_epi32(x.all, _mm512_set1_epi32(static_cast<int32_t>(n)))};
}
// Zeros come in from above.
PALO_INLINE Ints shift_right(Ints x, int64_t n) {
  return {_mm512_srlv_epi32(x.all, _mm512_set1_epi32(static_cast<int32_t>(n)))};
}
// One instruction takes a byte out of each lane, one rotates each lane.
#define PALO_HAS_BYTE_MOVES
// Byte `i` of each lane as a signed number: its product with 1.
PALO_INLINE Ints signed_byte(Ints x, int64_t i) {
  return {_mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi32(1 << (8 * i)), x.all)};
}
// n modulo 32, so that a negative one rotates to the left.
PALO_INLINE Ints rotate_right(Ints x, int64_t n) {
  return {_mm512_rorv_epi32(x.all, _mm512_set1_epi32(static_cast<int32_t>(n)))};
}
// 16 values of IEEE 754 binary16.
PALO_INLINE Floats load_halves(const uint8_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}

// Rounds to nearest, ties to even.
PALO_INLINE void store_halves(uint8_t* p, Floats x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x.all, _MM_FROUND_TO_NEAREST_INT));
}

// --- Pixels: a lane holds a byte, unsigned. ---

PALO_INLINE Ints operator*(Ints a, Ints b) {
  return {_mm512_mullo_epi32(a.all, b.all)};
}
PALO_INLINE Ints load_bytes(const uint8_t* p) {
  return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
// p[i / 4] in lane i.
PALO_INLINE Ints load_spread(const int32_t* p) {
  const __m512i four = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {_mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3), four)};
}
// Each lane's x >> RESAMPLING_BITS as a byte, 0 or 255 where it is beyond them.
PALO_INLINE void store_levels(uint8_t* p, Ints x) {
  const __m512i levels = _mm512_max_epi32(_mm512_srai_epi32(x.all, RESAMPLING_BITS), _mm512_setzero_si512());
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(levels));
}

// What is added to signed weights to make them the instruction's unsigned operand.
constexpr int32_t SIGNED_OFFSET = 128;
PALO_INLINE Ints move_signed(Ints w) {
  return {_mm512_xor_si512(w.all, _mm512_set1_epi8(-128))};
}

using Quad = __m512i;

PALO_INLINE Quad load_quad(const uint8_t* p) {
  return load_q8_input(p);
}
// sums += four unsigned bytes of each lane times the quad of signed bytes; exact for weights up to 127.
PALO_INLINE void add_quad(Ints& sums, Ints w, Quad x) {
  add_dot(sums, w, x);
}
// The same for weights that move_signed returned.
PALO_INLINE void add_signed_quad(Ints& sums, Ints w, Quad x) {
  add_dot(sums, w, x);
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
