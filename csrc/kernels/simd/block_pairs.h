// Integer products through sums of 16 bits, which are widened before they could overflow: for instruction sets without
// a dot product of bytes that adds into 32 bits (isa_avx2.h: Pairs).
#pragma once

#include "kernels/simd/block_piece.h"

namespace palo::PALO_SIMD_ISA {
namespace {

// multiply_quads for bytes of up to five bits. Of larger ones so few sums fit that widening them later gains nothing.
template <typename Block, int64_t ROWS>
  requires(Block::MAX_BYTE < 32)
PALO_INLINE void multiply_quads(Ints sums[ROWS][PANEL_VECTORS], const uint8_t* x, const BlockPiece<Block>& piece,
                                int64_t g, int64_t s, int64_t v_begin, int64_t row_bytes) {
  constexpr int64_t N_QUADS = GROUP_QUADS / Block::N_SCALES;
  constexpr int64_t FITTING = 32767 / (2 * 127 * Block::MAX_BYTE), STEP = FITTING < N_QUADS ? FITTING : N_QUADS;
  static_assert(N_QUADS % STEP == 0);
  for (int64_t begin = s * N_QUADS; begin < (s + 1) * N_QUADS; begin += STEP) {
    Pairs pairs[ROWS][PANEL_VECTORS];
    for (int64_t r = 0; r < ROWS; ++r) {
      for (int64_t v = 0; v < PANEL_VECTORS; ++v) pairs[r][v] = zero_pairs();
    }
    PALO_UNROLL
    for (int64_t t = begin; t < begin + STEP; ++t) {
      Ints w[PANEL_VECTORS];
      load_quads(w, piece, g, t, v_begin);
      for (int64_t r = 0; r < ROWS; ++r) {
        const Quad input = load_quad(x + r * row_bytes + 4 * t);
        for (int64_t v = 0; v < PANEL_VECTORS; ++v) add_to_pairs(pairs[r][v], w[v], input);
      }
    }
    for (int64_t r = 0; r < ROWS; ++r) {
      for (int64_t v = 0; v < PANEL_VECTORS; ++v) {
        if (begin == s * N_QUADS) sums[r][v] = start_of<Block>(x + r * row_bytes, s);
        add_pairs(sums[r][v], pairs[r][v]);
      }
    }
  }
}

// multiply_direct_quads likewise.
template <typename Block, int64_t ROWS>
  requires(Block::MAX_BYTE < 32)
PALO_INLINE void multiply_direct_quads(Ints sums[ROWS][DIRECT_VECTORS], const RowPointers<ROWS>& x,
                                       const uint8_t* block, int64_t g, int64_t s, int64_t v) {
  static_assert(DIRECT_VECTORS == 1);
  constexpr int64_t N_QUADS = GROUP_QUADS / Block::N_SCALES;
  constexpr int64_t FITTING = 32767 / (2 * 127 * Block::MAX_BYTE), STEP = FITTING < N_QUADS ? FITTING : N_QUADS;
  static_assert(N_QUADS % STEP == 0);
  for (int64_t r = 0; r < ROWS; ++r) sums[r][0] = start_of<Block>(x[r], s);
  for (int64_t begin = s * N_QUADS; begin < (s + 1) * N_QUADS; begin += STEP) {
    Pairs pairs[ROWS];
    for (int64_t r = 0; r < ROWS; ++r) pairs[r] = zero_pairs();
    const auto add_quads = [&](int64_t t) PALO_INLINE_LAMBDA {
      prefetch_quad<Block, ROWS>(block, g, t, v);
      const Ints w = Block::quad(block, g, t, v);
      for (int64_t r = 0; r < ROWS; ++r) add_to_pairs(pairs[r], w, load_quad(x[r] + 4 * t));
    };
    if constexpr (Block::N_GROUPS == 1) {
      PALO_UNROLL
      for (int64_t t = begin; t < begin + STEP; ++t) add_quads(t);
    } else {  // unrolled, eight groups of a K type are slower
      for (int64_t t = begin; t < begin + STEP; ++t) add_quads(t);
    }
    for (int64_t r = 0; r < ROWS; ++r) add_pairs(sums[r][0], pairs[r]);
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
