// A piece of a panel of quantized blocks, unpacked to bytes and f32 scales, and its integer products with rows; those
// of a block that is not unpacked, too.
#pragma once

#include "kernels/simd/block_prefetch.h"
#include "kernels/simd/block_rows.h"

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr int64_t BLOCK_PIECE_GROUPS = 16;  // 16 KiB of bytes
constexpr int64_t GROUP_QUADS = BLOCK_GROUP / 4;
constexpr int64_t QUAD_BYTES = BLOCK_PANEL_WIDTH * 4;  // of a panel's outputs

// A piece of a panel, unpacked: the results of Block::quad and Block::scales.
template <typename Block>
struct alignas(64) BlockPiece {
  uint8_t quads[BLOCK_PIECE_GROUPS * GROUP_QUADS * QUAD_BYTES];
  float scales[BLOCK_PIECE_GROUPS * Block::N_SCALES * BLOCK_PANEL_WIDTH];
  float mins[Block::HAS_MINS ? BLOCK_PIECE_GROUPS * BLOCK_PANEL_WIDTH : 1];
  float factors[Block::HAS_FACTOR ? BLOCK_PIECE_GROUPS / Block::N_GROUPS * BLOCK_PANEL_WIDTH : 1];
};

template <typename Block>
void unpack_piece(BlockPiece<Block>& piece, const uint8_t* blocks, int64_t n_blocks) {
  for (int64_t b = 0; b < n_blocks; ++b) {
    const uint8_t* block = blocks + b * Block::N_BYTES;
    const int64_t first = b * Block::N_GROUPS;
    Block::scales({piece.scales + first * Block::N_SCALES * BLOCK_PANEL_WIDTH,
                   piece.mins + (Block::HAS_MINS ? first * BLOCK_PANEL_WIDTH : 0),
                   piece.factors + (Block::HAS_FACTOR ? b * BLOCK_PANEL_WIDTH : 0)},
                  block);
    for (int64_t g = 0; g < Block::N_GROUPS; ++g) {
      for (int64_t t = 0; t < GROUP_QUADS; ++t) {
        for (int64_t v = 0; v < BLOCK_VECTORS; ++v) {
          uint8_t* at = piece.quads + ((first + g) * GROUP_QUADS + t) * QUAD_BYTES + v * LANES * 4;
          store_ints(at, Block::quad(block, g, t, v));
        }
      }
    }
  }
}

template <typename Block>
PALO_INLINE void add_block_quad(Ints& sums, Ints w, Quad x) {
  if constexpr (Block::IS_SIGNED) {
    add_signed_quad(sums, w, x);
  } else {
    add_quad(sums, w, x);
  }
}

template <typename Block>
PALO_INLINE Ints start_of(const uint8_t* group, int64_t scale) {
  return set_ints(Block::HAS_MINS ? 0 : read_int(group + ROW_START_AT + 4 * scale));
}

// Weights of PANEL_VECTORS vectors of an unpacked piece, from vector v on: quad t of group g.
template <typename Block>
PALO_INLINE void load_quads(Ints w[PANEL_VECTORS], const BlockPiece<Block>& piece, int64_t g, int64_t t,
                            int64_t v_begin) {
  for (int64_t v = 0; v < PANEL_VECTORS; ++v) {
    w[v] = load_ints(piece.quads + (g * GROUP_QUADS + t) * QUAD_BYTES + (v_begin + v) * LANES * 4);
  }
}

// sums[r][v] = integer products of ROWS rows with the part of group g that shares scale s.
template <typename Block, int64_t ROWS>
PALO_INLINE void multiply_quads(Ints sums[ROWS][PANEL_VECTORS], const uint8_t* x, const BlockPiece<Block>& piece,
                                int64_t g, int64_t s, int64_t v_begin, int64_t row_bytes) {
  constexpr int64_t N_QUADS = GROUP_QUADS / Block::N_SCALES;
  for (int64_t r = 0; r < ROWS; ++r) {
    const Ints start = start_of<Block>(x + r * row_bytes, s);
    for (int64_t v = 0; v < PANEL_VECTORS; ++v) sums[r][v] = start;
  }
  PALO_UNROLL
  for (int64_t t = s * N_QUADS; t < (s + 1) * N_QUADS; ++t) {
    Ints w[PANEL_VECTORS];
    load_quads(w, piece, g, t, v_begin);
    for (int64_t r = 0; r < ROWS; ++r) {
      const Quad input = load_quad(x + r * row_bytes + 4 * t);
      for (int64_t v = 0; v < PANEL_VECTORS; ++v) add_block_quad<Block>(sums[r][v], w[v], input);
    }
  }
}

// The same group of ROWS rows. With a pointer each, the compiler addresses all their inputs by constants.
template <int64_t ROWS>
struct RowPointers {
  const uint8_t* rows[ROWS];

  RowPointers(const uint8_t* x, int64_t row_bytes) {
    for (int64_t r = 0; r < ROWS; ++r) {
      rows[r] = x + r * row_bytes;
      if constexpr (ROWS > 2) PALO_LOAD_AGAIN(rows[r]);
    }
  }
  PALO_INLINE const uint8_t* operator[](int64_t r) const { return rows[r]; }
};

// sums[r][v] = integer products of ROWS rows with the part of group g that shares scale s, for the 16 outputs of vector
// v_begin + v.
template <typename Block, int64_t ROWS>
PALO_INLINE void multiply_direct_quads(Ints sums[ROWS][DIRECT_VECTORS], const RowPointers<ROWS>& x,
                                       const uint8_t* block, int64_t g, int64_t s, int64_t v_begin) {
  constexpr int64_t N_QUADS = GROUP_QUADS / Block::N_SCALES;
  for (int64_t r = 0; r < ROWS; ++r) {
    const Ints start = start_of<Block>(x[r], s);
    for (int64_t v = 0; v < DIRECT_VECTORS; ++v) sums[r][v] = start;
  }
  PALO_UNROLL
  for (int64_t i = 0; i < N_QUADS; ++i) {
    const int64_t t = s * N_QUADS + i;
    Ints w[DIRECT_VECTORS];
    for (int64_t v = 0; v < DIRECT_VECTORS; ++v) {
      prefetch_quad<Block, ROWS>(block, g, t, v_begin + v);
      w[v] = Block::quad(block, g, t, v_begin + v);
    }
    for (int64_t r = 0; r < ROWS; ++r) {
      const Quad input = load_quad(x[r] + 4 * t);
      for (int64_t v = 0; v < DIRECT_VECTORS; ++v) add_block_quad<Block>(sums[r][v], w[v], input);
    }
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
