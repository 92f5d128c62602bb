// Activations for the block types: int8 with a scale per BLOCK_GROUP inputs (block_kernels.h: "The order").
//
// A group of a quantized row: int8 [BLOCK_GROUP], f32 scale, then what makes up for the weights' offset or minimums:
// for each scale of weights in the group the int32 that its sums start with, -OFFSET * (sum of its inputs); or, where
// the type has minimums, the f32 scale * (sum of the group's inputs). A row is padded to 64 bytes with zeros.
#pragma once

#include "kernels/simd/block_types.h"

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr int64_t ROW_SCALE_AT = BLOCK_GROUP, ROW_START_AT = BLOCK_GROUP + 4;

template <typename Block>
constexpr int64_t ROW_GROUP_BYTES = ROW_START_AT + 4 * Block::N_SCALES;

template <typename Block>
int64_t block_row_bytes(int64_t n_in) {
  return (n_in / BLOCK_GROUP * ROW_GROUP_BYTES<Block> + 63) / 64 * 64;
}

template <typename Block>
PALO_INLINE void quantize_block_group(uint8_t* group, const float* x) {
  static_assert(BLOCK_GROUP == 2 * LANES);
  const Floats values[2] = {load(x), load(x + LANES)};
  const float absmax = max_of_lanes(max(absolute(values[0]), absolute(values[1])));
  const bool is_zero = absmax < Q8_SMALLEST;
  const Floats inverse = set(is_zero ? 0.0f : 127.0f / absmax);
  const float scale = is_zero ? 0.0f : absmax / 127.0f;
  int32_t sums[2];
  for (int64_t i = 0; i < 2; ++i) {
    const Ints q = round_to_ints(values[i] * inverse);
    store_bytes(group + i * LANES, q);
    sums[i] = sum_of_lanes(q);
  }
  __builtin_memcpy(group + ROW_SCALE_AT, &scale, sizeof(scale));
  if constexpr (Block::HAS_MINS) {
    const float sum = scale * static_cast<float>(sums[0] + sums[1]);
    __builtin_memcpy(group + ROW_START_AT, &sum, sizeof(sum));
  } else {
    const int32_t both[2] = {-Block::OFFSET * (Block::N_SCALES == 2 ? sums[0] : sums[0] + sums[1]),
                             -Block::OFFSET * sums[1]};
    __builtin_memcpy(group + ROW_START_AT, both, 4 * Block::N_SCALES);
  }
}

template <typename Block>
void quantize_block_rows(uint8_t* out, const float* x, int64_t n_rows, int64_t n_in, int64_t ldx) {
  const int64_t n_groups = n_in / BLOCK_GROUP, row_bytes = block_row_bytes<Block>(n_in);
  for (int64_t r = 0; r < n_rows; ++r) {
    uint8_t* row = out + r * row_bytes;
    for (int64_t g = 0; g < n_groups; ++g) {
      quantize_block_group<Block>(row + g * ROW_GROUP_BYTES<Block>, x + r * ldx + g * BLOCK_GROUP);
    }
    const int64_t n_used = n_groups * ROW_GROUP_BYTES<Block>;
    __builtin_memset(row + n_used, 0, row_bytes - n_used);
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
