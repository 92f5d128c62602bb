// Activations for the block types: int8 with a scale per block of weights (block_kernels.h: "The order").
//
// A group of a quantized row: int8 [BLOCK_GROUP], f32 scale, then the correction for the weights' offset or minimums:
// for each scale of weights in the group the int32 that its sums start from, -OFFSET * (sum of its inputs); or, where
// the type has minimums, the sum of the group's inputs as f32. A row is padded to 64 bytes with zeros.
//
// Where a block is one group, its sums start at START_BITS more: their bits are then the float START + sum, which is
// exact, and fma(START + sum, scale, -START * scale) is float(sum) * scale rounded once, without a conversion.
#pragma once

#include "kernels/simd/block_types.h"
#include "kernels/simd/linear_q8.h"

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr float LARGEST_HALF = 65504.0f;
constexpr int64_t ROW_SCALE_AT = BLOCK_GROUP, ROW_START_AT = BLOCK_GROUP + 4;
constexpr float START = 0x1.8p23f;  // times a scale of f16: exact
constexpr int32_t START_BITS = __builtin_bit_cast(int32_t, START);
static_assert(BLOCK_GROUP * 127 * 128 < 1 << 22);  // the largest sum; START plus or minus it has the same exponent

template <typename Block>
constexpr int64_t ROW_GROUP_BYTES = ROW_START_AT + 4 * Block::N_SCALES;

template <typename Block>
int64_t block_row_bytes(int64_t n_in) {
  return (n_in / BLOCK_GROUP * ROW_GROUP_BYTES<Block> + 63) / 64 * 64;
}

// Inputs that share a scale: see block_kernels.h.
template <typename Block>
constexpr int64_t SCALE_INPUTS = Block::LAYOUT.size;

PALO_INLINE float round_to_half(float x) {
  uint8_t halves[2 * LANES];
  store_halves(halves, set(x));
  float rounded[LANES];
  store(rounded, load_halves(halves));
  return rounded[0];
}

struct InputScale {
  float scale, inverse;
};

// The scale of SCALE_INPUTS inputs.
template <typename Block>
PALO_INLINE InputScale input_scale(const float* x) {
  Floats largest = set(0.0f);
  for (int64_t i = 0; i < SCALE_INPUTS<Block>; i += LANES) largest = max(absolute(load(x + i)), largest);
  const float absmax = max_of_lanes(largest);
  if (absmax < Q8_SMALLEST) return {0.0f, 0.0f};
  const float inverse = 127.0f / absmax;
  if constexpr (SCALE_INPUTS<Block> != BLOCK_GROUP) return {1.0f / inverse, inverse};
  const float scale = absmax / 127.0f;
  return {scale < LARGEST_HALF ? round_to_half(scale) : scale, inverse};
}

template <typename Block>
PALO_INLINE void quantize_block_group(uint8_t* group, const float* x, InputScale scale) {
  int32_t sums[2];
  for (int64_t i = 0; i < 2; ++i) {
    const Ints q = round_to_ints(load(x + i * LANES) * set(scale.inverse));
    store_bytes(group + i * LANES, q);
    sums[i] = sum_of_lanes(q);
  }
  __builtin_memcpy(group + ROW_SCALE_AT, &scale.scale, sizeof(scale.scale));
  if constexpr (Block::HAS_MINS) {
    const float sum = static_cast<float>(sums[0] + sums[1]);
    __builtin_memcpy(group + ROW_START_AT, &sum, sizeof(sum));
  } else {
    const int32_t start = Block::N_GROUPS == 1 ? START_BITS : 0;
    const int32_t both[2] = {start - Block::OFFSET * (Block::N_SCALES == 2 ? sums[0] : sums[0] + sums[1]),
                             start - Block::OFFSET * sums[1]};
    __builtin_memcpy(group + ROW_START_AT, both, 4 * Block::N_SCALES);
  }
}

template <typename Block>
void quantize_block_rows(uint8_t* out, const float* x, int64_t n_rows, int64_t n_in, int64_t ldx) {
  static_assert(BLOCK_GROUP == 2 * LANES);
  const int64_t row_bytes = block_row_bytes<Block>(n_in);
  for (int64_t r = 0; r < n_rows; ++r) {
    uint8_t* group = out + r * row_bytes;
    for (int64_t i = 0; i < n_in; i += SCALE_INPUTS<Block>) {
      const float* inputs = x + r * ldx + i;
      const InputScale scale = input_scale<Block>(inputs);
      for (int64_t j = 0; j < SCALE_INPUTS<Block>; j += BLOCK_GROUP, group += ROW_GROUP_BYTES<Block>) {
        quantize_block_group<Block>(group, inputs + j, scale);
      }
    }
    __builtin_memset(group, 0, out + (r + 1) * row_bytes - group);
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
