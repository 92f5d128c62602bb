// AVX2 and FMA without a dot product of bytes: activations are kept as int16, weights are widened when they are loaded,
// vpmaddwd adds pairs. 135 GOP/s on one Zen 3 core at 2.45 GHz, where vpmaddubsw with moved signs reached 105.
#pragma once

#include "kernels/simd/lanes_avx2.h"

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr int64_t LINEAR_ROWS = 6;  // 6 x 2 sums, 2 weights, 1 input: 15 of 16 registers
constexpr int64_t PANEL_VECTORS = 1;

constexpr int64_t DIRECT_ROWS = 4;
constexpr int64_t DIRECT_VECTORS = 1;
constexpr int64_t QUAD_PREFETCH_ROWS = 1;
constexpr int64_t UNPACKED_ROWS = 6;

constexpr int64_t Q8_ROWS = 6;
constexpr int64_t Q8_VECTORS = PANEL_VECTORS;
constexpr int64_t Q8_STEP = 2;         // inputs per dot product of a lane
constexpr int64_t Q8_INPUT_BYTES = 2;  // bytes of one quantized activation
constexpr int32_t Q8_WEIGHT_OFFSET = 0;
constexpr bool Q8_SUMS_IN_REGISTERS = false;

using Q8Weights = Ints;
using Q8Input = __m256i;

// p [16 outputs][2 inputs] int8
PALO_INLINE Q8Weights load_q8_weights(const uint8_t* p) {
  const __m128i* at = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtepi8_epi16(_mm_load_si128(at)), _mm256_cvtepi8_epi16(_mm_load_si128(at + 1))};
}
PALO_INLINE Q8Input load_q8_input(const uint8_t* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return _mm256_set1_epi32(pair);
}
PALO_INLINE void add_dot(Ints& sums, Q8Weights w, Q8Input x) {
  sums.low = _mm256_add_epi32(sums.low, _mm256_madd_epi16(x, w.low));
  PALO_KEEP_IN_REGISTER(sums.low);
  sums.high = _mm256_add_epi32(sums.high, _mm256_madd_epi16(x, w.high));
  PALO_KEEP_IN_REGISTER(sums.high);
}
PALO_INLINE void store_q8_inputs(uint8_t* p, Ints q) {
  store_int16(p, q);
}
PALO_INLINE void store_q8_weights(uint8_t* p, const Ints q[Q8_STEP]) {
  store_pairs(p, q[0], q[1]);
}

constexpr int32_t SIGNED_OFFSET = 0;
PALO_INLINE Ints move_signed(Ints w) {
  return w;
}

// Sums of 16 bits of neighbouring products: vpmaddubsw computes them, and one vpmaddwd with ones widens as many as fit,
// which takes two instructions per 32 products instead of three.
#define PALO_HAS_PAIRS
struct Pairs {
  __m256i low, high;
};

PALO_INLINE Pairs zero_pairs() {
  return {_mm256_setzero_si256(), _mm256_setzero_si256()};
}
PALO_INLINE void add_to_pairs(Pairs& pairs, Ints w, Quad x) {
  pairs.low = _mm256_add_epi16(pairs.low, _mm256_maddubs_epi16(w.low, x));
  PALO_KEEP_IN_REGISTER(pairs.low);
  pairs.high = _mm256_add_epi16(pairs.high, _mm256_maddubs_epi16(w.high, x));
  PALO_KEEP_IN_REGISTER(pairs.high);
}
PALO_INLINE void add_pairs(Ints& sums, Pairs pairs) {
  const __m256i ones = _mm256_set1_epi16(1);
  sums.low = _mm256_add_epi32(sums.low, _mm256_madd_epi16(pairs.low, ones));
  PALO_KEEP_IN_REGISTER(sums.low);
  sums.high = _mm256_add_epi32(sums.high, _mm256_madd_epi16(pairs.high, ones));
  PALO_KEEP_IN_REGISTER(sums.high);
}
// sums += four unsigned bytes of each lane times the quad of signed bytes; exact for weights up to 127: two products
// of 127 * 127 fit into 16 bits.
PALO_INLINE void add_quad(Ints& sums, Ints w, Quad x) {
  add_pairs(sums, {_mm256_maddubs_epi16(w.low, x), _mm256_maddubs_epi16(w.high, x)});
}
// The same for signed weights: their signs go to x, which is never -128; 2 * 128 * 127 fits into 16 bits.
PALO_INLINE void add_signed_quad(Ints& sums, Ints w, Quad x) {
  add_pairs(sums, {_mm256_maddubs_epi16(_mm256_abs_epi8(w.low), _mm256_sign_epi8(x, w.low)),
                   _mm256_maddubs_epi16(_mm256_abs_epi8(w.high), _mm256_sign_epi8(x, w.high))});
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
