// Weights of few rows are prefetched: a K type takes so many instructions per byte that the processor alone does not
// look far enough ahead. What is prefetched beyond the last panel is not used.
#pragma once

#include "kernels/simd/block_types.h"

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr int64_t PREFETCH_BYTES = 8192;  // 4 KiB leave Q6_K at 40 instead of 50 GB/s, 16 KiB are no better

template <typename Block>
constexpr int64_t GROUP_BYTES = Block::N_BYTES / Block::N_GROUPS;
constexpr int64_t GROUP_PARTS = BLOCK_VECTORS * BLOCK_GROUP / 4;  // a quad of each vector

// Lines that are asked for a group at once wait for each other: up to QUAD_PREFETCH_ROWS rows ask for them quad by
// quad, except where the part of a quad is larger than a line (Q8_0). Emerald Rapids, two threads, Q6_K with 1, 4 and 8
// rows: 23, 22, 18 instead of 21, 21, 17 GB/s. Zen 3 (AVX2), one row of Q4_K and Q6_K: 0.98, 0.97 instead of 0.81, 0.79
// of a plain read; there more rows gain nothing, nor do blocks of one group.
template <typename Block, int64_t ROWS>
constexpr bool PREFETCHES_BY_QUADS =
    ROWS <= QUAD_PREFETCH_ROWS && (Block::N_GROUPS > 1 || DIRECT_VECTORS > 1) && GROUP_BYTES<Block> <= 64 * GROUP_PARTS;

// The bytes that are read PREFETCH_BYTES after group g.
template <typename Block, int64_t ROWS>
PALO_INLINE void prefetch_group(const uint8_t* block, int64_t g) {
  if constexpr (!PREFETCHES_BY_QUADS<Block, ROWS>) {
    constexpr int64_t N_LINES = (GROUP_BYTES<Block> + 63) / 64;
    for (int64_t i = 0; i < N_LINES; ++i) __builtin_prefetch(block + PREFETCH_BYTES + (g * N_LINES + i) * 64);
  }
}

// The same in parts, one for each quad t of vector v.
template <typename Block, int64_t ROWS>
PALO_INLINE void prefetch_quad(const uint8_t* block, int64_t g, int64_t t, int64_t v) {
  if constexpr (PREFETCHES_BY_QUADS<Block, ROWS>) {
    constexpr int64_t N_QUADS = BLOCK_GROUP / 4, PART_BYTES = GROUP_BYTES<Block> / GROUP_PARTS;
    __builtin_prefetch(block + PREFETCH_BYTES + g * GROUP_BYTES<Block> + (v * N_QUADS + t) * PART_BYTES);
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
