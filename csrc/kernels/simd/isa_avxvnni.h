// AVX2 with the dot product of unsigned and signed bytes (VEX vpdpbusd): laptops since Alder Lake, Zen 5.
#pragma once

#include "kernels/simd/lanes_avx2.h"

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr int64_t LINEAR_ROWS = 6;  // 6 x 2 sums, 2 weights, 1 input: 15 of 16 registers
constexpr int64_t PANEL_VECTORS = 1;

constexpr int64_t DIRECT_ROWS = 4;
constexpr int64_t DIRECT_VECTORS = 1;
constexpr int64_t QUAD_PREFETCH_ROWS = 0;
constexpr int64_t UNPACKED_ROWS = 6;

constexpr int64_t Q8_ROWS = 6;
constexpr int64_t Q8_VECTORS = PANEL_VECTORS;
constexpr int64_t Q8_STEP = 4;
constexpr int64_t Q8_INPUT_BYTES = 1;
// Weights are stored as q + 128, the instruction's unsigned operand; a row stores the correction for it.
constexpr int32_t Q8_WEIGHT_OFFSET = 128;
constexpr bool Q8_SUMS_IN_REGISTERS = false;

using Q8Weights = Ints;
using Q8Input = __m256i;

// p [16 outputs][4 inputs] uint8
PALO_INLINE Q8Weights load_q8_weights(const uint8_t* p) {
  const __m256i* at = reinterpret_cast<const __m256i*>(p);
  return {_mm256_load_si256(at), _mm256_load_si256(at + 1)};
}
PALO_INLINE Q8Input load_q8_input(const uint8_t* p) {
  int32_t quad;
  __builtin_memcpy(&quad, p, sizeof(quad));
  return _mm256_set1_epi32(quad);
}
PALO_INLINE void add_dot(Ints& sums, Q8Weights w, Q8Input x) {
  sums.low = _mm256_dpbusd_avx_epi32(sums.low, w.low, x);
  PALO_KEEP_IN_REGISTER(sums.low);
  sums.high = _mm256_dpbusd_avx_epi32(sums.high, w.high, x);
  PALO_KEEP_IN_REGISTER(sums.high);
}
PALO_INLINE void store_q8_inputs(uint8_t* p, Ints q) {
  store_bytes(p, q);
}
PALO_INLINE void store_q8_weights(uint8_t* p, const Ints q[Q8_STEP]) {
  store_quads(p, q);
}

// What is added to signed weights to make them the instruction's unsigned operand.
constexpr int32_t SIGNED_OFFSET = 128;
PALO_INLINE Ints move_signed(Ints w) {
  const __m256i top = _mm256_set1_epi8(-128);
  return {_mm256_xor_si256(w.low, top), _mm256_xor_si256(w.high, top)};
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
