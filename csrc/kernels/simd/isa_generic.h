// Plain loops with int8 weights, as NEON has them.
#pragma once

#include "kernels/simd/lanes_generic.h"

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr int64_t LINEAR_ROWS = 4;
constexpr int64_t PANEL_VECTORS = 1;

constexpr int64_t DIRECT_ROWS = 4;
constexpr int64_t DIRECT_VECTORS = 1;
constexpr int64_t QUAD_PREFETCH_ROWS = 0;
constexpr int64_t UNPACKED_ROWS = 4;

constexpr int64_t Q8_ROWS = 4;
constexpr int64_t Q8_VECTORS = PANEL_VECTORS;
constexpr int64_t Q8_STEP = 4;
constexpr int64_t Q8_INPUT_BYTES = 1;
constexpr int32_t Q8_WEIGHT_OFFSET = 0;
constexpr bool Q8_SUMS_IN_REGISTERS = true;

struct Q8Weights {
  int8_t lane[LANES][Q8_STEP];
};
struct Q8Input {
  int8_t value[Q8_STEP];
};

PALO_INLINE Q8Weights load_q8_weights(const uint8_t* p) {
  Q8Weights w;
  __builtin_memcpy(&w, p, sizeof(w));
  return w;
}
PALO_INLINE Q8Input load_q8_input(const uint8_t* p) {
  Q8Input x;
  __builtin_memcpy(&x, p, sizeof(x));
  return x;
}
PALO_INLINE void add_dot(Ints& sums, const Q8Weights& w, Q8Input x) {
  for (int64_t i = 0; i < LANES; ++i) {
    for (int64_t k = 0; k < Q8_STEP; ++k) sums.lane[i] += w.lane[i][k] * x.value[k];
  }
}
PALO_INLINE void store_q8_inputs(uint8_t* p, Ints q) {
  store_bytes(p, q);
}
PALO_INLINE void store_q8_weights(uint8_t* p, const Ints q[Q8_STEP]) {
  for (int64_t i = 0; i < LANES; ++i) {
    for (int64_t k = 0; k < Q8_STEP; ++k) p[i * Q8_STEP + k] = static_cast<uint8_t>(q[k].lane[i]);
  }
}

constexpr int32_t SIGNED_OFFSET = 0;
PALO_INLINE Ints move_signed(Ints w) {
  return w;
}
PALO_INLINE void add_signed_quad(Ints& sums, Ints w, Quad x) {
  for (int64_t i = 0; i < LANES; ++i) {
    for (int k = 0; k < 4; ++k) sums.lane[i] += static_cast<int8_t>(bits_of(w, i) >> (8 * k)) * x.value[k];
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
