// Weights of few rows are prefetched: a K type takes so many instructions per byte that the processor alone does not
// look far enough ahead. What is prefetched beyond the last panel is not used.
#pragma once

#include "kernels/simd/block_types.h"

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr int64_t PREFETCH_BYTES = 8192;  // 4 KiB leave Q6_K at 40 instead of 50 GB/s, 16 KiB are no better

// A single row is so quick that it waits for lines that are asked for a group at once: they are asked for quad by quad.
// (AVX2, Zen 3, share of a plain read: Q4_K 0.98 instead of 0.81, Q6_K 0.97 instead of 0.79. More rows gain nothing,
// nor do blocks of one group.)
#ifdef PALO_HAS_PAIRS
constexpr bool CAN_PREFETCH_BY_QUADS = true;
#else  // not measured there
constexpr bool CAN_PREFETCH_BY_QUADS = false;
#endif
template <typename Block, int64_t ROWS>
constexpr bool PREFETCHES_BY_QUADS = CAN_PREFETCH_BY_QUADS && ROWS == 1 && Block::N_GROUPS > 1;
template <typename Block>
constexpr int64_t GROUP_BYTES = Block::N_BYTES / Block::N_GROUPS;

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
    constexpr int64_t N_QUADS = BLOCK_GROUP / 4, PART_BYTES = GROUP_BYTES<Block> / (BLOCK_VECTORS * N_QUADS);
    static_assert(PART_BYTES <= 64);
    __builtin_prefetch(block + PREFETCH_BYTES + g * GROUP_BYTES<Block> + (v * N_QUADS + t) * PART_BYTES);
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
