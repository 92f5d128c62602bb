// Activations and weights to int8, one scale per GROUP inputs (kernel_table.h: Q8Kernels).
//
// A group of a quantized row: [GROUP] inputs of Q8_INPUT_BYTES, f32 scale and, where weights have an offset, the int32
// that the group's sums start from: -offset * (sum of the inputs). Groups are contiguous, so that pieces of a row can
// be quantized separately. A group of a panel: [GROUP / Q8_STEP][Q8_WIDTH][Q8_STEP] weights as bytes, [Q8_WIDTH] f32
// scales.
#pragma once

#include "kernels/kernel_table.h"

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr int64_t Q8_WIDTH = Q8_VECTORS * LANES;
constexpr bool HAS_OFFSET = Q8_WEIGHT_OFFSET != 0;

template <int64_t GROUP>
struct Q8Layout {
  static constexpr int64_t VECTORS = GROUP / LANES;
  static constexpr int64_t SCALE_AT = GROUP * Q8_INPUT_BYTES;
  static constexpr int64_t START_AT = SCALE_AT + 4;
  static constexpr int64_t ROW_GROUP_BYTES = HAS_OFFSET ? START_AT + 4 : START_AT;
  static constexpr int64_t WEIGHT_BYTES = GROUP * Q8_WIDTH;
  static constexpr int64_t PANEL_GROUP_BYTES = WEIGHT_BYTES + Q8_WIDTH * int64_t{sizeof(float)};
  static_assert(PANEL_GROUP_BYTES % 64 == 0);
  static int64_t n_groups(int64_t n_in) { return (n_in + GROUP - 1) / GROUP; }
};

// What is loaded at once of a row: a group is one or two chunks.
constexpr int64_t CHUNK = 64;
constexpr int64_t CHUNK_VECTORS = CHUNK / LANES;

// 127 / absmax overflows below 3.8e-37: there a group counts as zeros.
constexpr float Q8_SMALLEST = 0x1p-120f;

PALO_INLINE float read_float(const uint8_t* p) {
  float x;
  __builtin_memcpy(&x, p, sizeof(x));
  return x;
}

// Up to 64 values from p on, zeros after the first n (none for n <= 0).
PALO_INLINE void load_chunk(Floats x[CHUNK_VECTORS], const float* p, int64_t n) {
  if (n >= CHUNK) {
    for (int64_t v = 0; v < CHUNK_VECTORS; ++v) x[v] = load(p + v * LANES);
    return;
  }
  for (int64_t v = 0; v < CHUNK_VECTORS; ++v) {
    const int64_t left = n - v * LANES;
    x[v] = left >= LANES ? load(p + v * LANES) : left > 0 ? load_first(p + v * LANES, left) : set(0.0f);
  }
}

// A whole group of them.
template <int64_t GROUP>
PALO_INLINE void load_group(Floats x[GROUP / LANES], const float* p, int64_t n) {
  for (int64_t c = 0; c < GROUP; c += CHUNK) load_chunk(x + c / LANES, p + c, n - c);
}

// Writes the first n values to p.
PALO_INLINE void store_chunk(float* p, const Floats x[CHUNK_VECTORS], int64_t n) {
  for (int64_t v = 0; v < CHUNK_VECTORS; ++v) {
    const int64_t left = n - v * LANES;
    if (left >= LANES) {
      store(p + v * LANES, x[v]);
    } else if (left > 0) {
      store_first(p + v * LANES, x[v], left);
    }
  }
}

// The largest of N vectors, lane by lane.
template <int64_t N>
PALO_INLINE Floats largest_of(const Floats x[N]) {
  if constexpr (N == 1) {
    return x[0];
  } else {
    return max(largest_of<N / 2>(x), largest_of<N - N / 2>(x + N / 2));
  }
}

template <int64_t GROUP>
PALO_INLINE float absmax_of(const Floats x[GROUP / LANES]) {
  Floats sizes[GROUP / LANES];
  for (int64_t v = 0; v < GROUP / LANES; ++v) sizes[v] = absolute(x[v]);
  return max_of_lanes(largest_of<GROUP / LANES>(sizes));
}

#ifndef PALO_HAS_Q8_CHUNKS
// Writes a chunk's inputs; the sum of the result's lanes is theirs (where weights have an offset).
PALO_INLINE Ints store_q8_chunk(uint8_t* p, const Ints q[CHUNK_VECTORS]) {
  Ints sum = set_ints(0);
  for (int64_t v = 0; v < CHUNK_VECTORS; ++v) {
    store_q8_inputs(p + v * LANES * Q8_INPUT_BYTES, q[v]);
    if constexpr (HAS_OFFSET) sum = sum + q[v];
  }
  return sum;
}
#endif

// Writes a group's inputs; the sum of the result's lanes is theirs (where weights have an offset).
template <int64_t GROUP>
PALO_INLINE Ints store_q8_inputs_of(uint8_t* group, const Ints q[GROUP / LANES]) {
  Ints sum = set_ints(0);
  for (int64_t c = 0; c < GROUP; c += CHUNK) sum = sum + store_q8_chunk(group + c * Q8_INPUT_BYTES, q + c / LANES);
  return sum;
}

// Writes what the sums of a group start from.
template <int64_t GROUP>
PALO_INLINE void store_start(uint8_t* group, Ints sum) {
  if constexpr (HAS_OFFSET) {
    const int32_t start = -Q8_WEIGHT_OFFSET * sum_of_lanes(sum);
    __builtin_memcpy(group + Q8Layout<GROUP>::START_AT, &start, sizeof(start));
  }
}

template <int64_t GROUP>
PALO_INLINE void quantize_group(uint8_t* group, const Floats x[GROUP / LANES]) {
  const float absmax = absmax_of<GROUP>(x);
  const bool is_zero = absmax < Q8_SMALLEST;
  const Floats inverse = set(is_zero ? 0.0f : 127.0f / absmax);
  const float scale = is_zero ? 0.0f : absmax / 127.0f;
  Ints q[GROUP / LANES];
  for (int64_t v = 0; v < GROUP / LANES; ++v) q[v] = round_to_ints(x[v] * inverse);
  store_start<GROUP>(group, store_q8_inputs_of<GROUP>(group, q));
  __builtin_memcpy(group + Q8Layout<GROUP>::SCALE_AT, &scale, sizeof(scale));
}

template <int64_t GROUP>
void quantize_rows(uint8_t* out, const float* x, int64_t n_rows, int64_t n_in, int64_t ldx) {
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t i = 0; i < n_in; i += GROUP, out += Q8Layout<GROUP>::ROW_GROUP_BYTES) {
      Floats values[GROUP / LANES];
      load_group<GROUP>(values, x + r * ldx + i, n_in - i);
      quantize_group<GROUP>(out, values);
    }
  }
}

// One output's group of inputs, contiguous in memory: its steps go Q8_WIDTH * Q8_STEP bytes apart.
template <int64_t GROUP>
PALO_INLINE void pack_output(uint8_t* panel, const float* w, int64_t output, int64_t n) {
  Floats values[GROUP / LANES];
  load_group<GROUP>(values, w, n);
  const float absmax = absmax_of<GROUP>(values);
  const bool is_zero = absmax < Q8_SMALLEST;
  const Floats inverse = set(is_zero ? 0.0f : 127.0f / absmax);
  const float scale = is_zero ? 0.0f : absmax / 127.0f;
  uint8_t bytes[GROUP];
  for (int64_t v = 0; v < GROUP / LANES; ++v) {
    store_bytes(bytes + v * LANES, round_to_ints(values[v] * inverse) + set_ints(Q8_WEIGHT_OFFSET));
  }
  for (int64_t k = 0; k < GROUP; k += Q8_STEP) {
    __builtin_memcpy(panel + k * Q8_WIDTH + output * Q8_STEP, bytes + k, Q8_STEP);
  }
  __builtin_memcpy(panel + Q8Layout<GROUP>::WEIGHT_BYTES + output * 4, &scale, 4);
}

// LANES outputs, contiguous in memory, of which n exist; inputs are `stride` apart, and n_in of them exist.
template <int64_t GROUP>
PALO_INLINE void pack_lanes(uint8_t* panel, const float* w, int64_t output, int64_t n, int64_t n_in, int64_t stride) {
  const int64_t n_inputs = n_in < GROUP ? n_in : GROUP;
  Floats absmax = set(0.0f);
  for (int64_t k = 0; k < n_inputs; ++k) {
    const float* p = w + k * stride;
    absmax = max(absolute(n == LANES ? load(p) : load_first(p, n)), absmax);
  }
  // A lane that counts as zeros has scale and inverse 0, so its values become zeros.
  const Floats not_zero = absmax - set(Q8_SMALLEST);
  const Floats inverse = where_negative(not_zero, set(0.0f), set(127.0f) / absmax);
  const Floats scale = where_negative(not_zero, set(0.0f), absmax / set(127.0f));
  for (int64_t k = 0; k < GROUP; k += Q8_STEP) {
    Ints q[Q8_STEP];
    for (int64_t i = 0; i < Q8_STEP; ++i) {
      const float* p = w + (k + i) * stride;
      const Floats values = k + i >= n_inputs ? set(0.0f) : n == LANES ? load(p) : load_first(p, n);
      q[i] = round_to_ints(values * inverse) + set_ints(Q8_WEIGHT_OFFSET);
    }
    store_q8_weights(panel + k * Q8_WIDTH + output * Q8_STEP, q);
  }
  float scales[LANES];
  store(scales, scale);
  __builtin_memcpy(panel + Q8Layout<GROUP>::WEIGHT_BYTES + output * 4, scales, sizeof(scales));
}

template <int64_t GROUP>
void pack_q8_panel(uint8_t* panel, const float* w, int64_t n_out, int64_t n_in, int64_t stride_out, int64_t stride_in) {
  for (int64_t i = 0; i < n_in; i += GROUP, panel += Q8Layout<GROUP>::PANEL_GROUP_BYTES) {
    const float* first = w + i * stride_in;
    const int64_t n_left = n_in - i;
    if (stride_in == 1) {
      for (int64_t o = 0; o < Q8_WIDTH; ++o)
        pack_output<GROUP>(panel, first + o * stride_out, o, o < n_out ? n_left : 0);
    } else {
      for (int64_t o = 0; o < Q8_WIDTH; o += LANES) {
        const int64_t n = n_out - o < LANES ? n_out - o : LANES;
        pack_lanes<GROUP>(panel, first + o, o, n, n > 0 ? n_left : 0, stride_in);
      }
    }
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
