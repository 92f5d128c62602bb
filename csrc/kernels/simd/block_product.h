// Products with integer block types (block_kernels.h: multiply).
//
// Few rows: weights go from the panel through registers into the dot products, once, at the speed of memory. More rows:
// BLOCK_PIECE_GROUPS groups of a panel are unpacked to bytes and f32 scales on the stack, where they stay in the
// first-level cache while all rows are multiplied.
#pragma once

#include "kernels/simd/block_piece.h"
#ifdef PALO_HAS_PAIRS
#include "kernels/simd/block_pairs.h"
#endif

namespace palo::PALO_SIMD_ISA {
namespace {

#ifdef PALO_HAS_PAIRS
// Up to so many rows are, in tiles: the second tile finds the panel in the second-level cache. (AVX2, Q4_0: 8 rows at
// 208 instead of 186 GOP/s. Eight groups of a K type are quicker unpacked.)
template <typename Block>
constexpr int64_t MOST_DIRECT_ROWS = Block::N_GROUPS == 1 ? 2 * DIRECT_ROWS : DIRECT_ROWS;
#else
template <typename Block>
constexpr int64_t MOST_DIRECT_ROWS = DIRECT_ROWS;
#endif
constexpr int64_t BLOCK_PASS_ROWS = 192;  // rows whose piece stays in the second-level cache for all panels
constexpr int64_t CHUNK_OUTPUTS = 512;    // outputs of a pass that share that piece
constexpr int64_t CACHED_ROW_BYTES = 256 << 10;

// What all tiles of one call share.
struct BlockProduct {
  int64_t n_blocks, row_bytes, ldo;
};

PALO_INLINE void store_outputs(float* out, Floats x, int64_t n) {
  if (n >= LANES) {
    store(out, x);
  } else if (n > 0) {
    store_first(out, x, n);
  }
}
PALO_INLINE Floats load_outputs(const float* out, int64_t n) {
  return n >= LANES ? load(out) : n > 0 ? load_first(out, n) : set(0.0f);
}

// acc[r] += products of one run of inputs that share a scale of weights. `acc` is the sum of the block's runs or, if a
// block is one run (block_kernels.h: "The order"), the total itself.
template <typename Block>
PALO_INLINE void add_run(Floats& acc, Ints sums, Floats scale, const uint8_t* x) {
  if constexpr (Block::N_GROUPS == 1) {
    const Floats part = fma(as_floats(sums), scale, set(-START) * scale);
    acc = fma(part, set(read_float(x + ROW_SCALE_AT)), acc);
  } else {
    acc = fma(to_floats(sums), scale, acc);
  }
}

// One group of ROWS rows with DIRECT_VECTORS vectors of outputs from vector v_begin on, straight from the panel's
// block.
template <typename Block, int64_t ROWS>
PALO_INLINE void add_direct_group(Floats acc[ROWS][BLOCK_VECTORS], const RowPointers<ROWS>& x, const uint8_t* block,
                                  const float* scales, const float* mins, int64_t g, int64_t v_begin) {
  for (int64_t s = 0; s < Block::N_SCALES; ++s) {
    Ints sums[ROWS][DIRECT_VECTORS];
    multiply_direct_quads<Block, ROWS>(sums, x, block, g, s, v_begin);
    for (int64_t v = 0; v < DIRECT_VECTORS; ++v) {
      const Floats scale = load(scales + ((g * Block::N_SCALES + s) * BLOCK_VECTORS + v_begin + v) * LANES);
      for (int64_t r = 0; r < ROWS; ++r) add_run<Block>(acc[r][v_begin + v], sums[r][v], scale, x[r]);
    }
  }
  if constexpr (Block::HAS_MINS) {
    for (int64_t v = v_begin; v < v_begin + DIRECT_VECTORS; ++v) {
      const Floats min = load(mins + (g * BLOCK_VECTORS + v) * LANES);
      for (int64_t r = 0; r < ROWS; ++r) {
        acc[r][v] = fma(set(read_float(x[r] + ROW_START_AT)), min, acc[r][v]);
      }
    }
  }
}

// totals = fma(acc, scale of the rows' block [* factor], totals), x being the block's first group; factor, where the
// type has one, that of the first output of acc.
template <typename Block, int64_t ROWS, int64_t VECTORS>
PALO_INLINE void add_block(Floats totals[ROWS][VECTORS], const Floats acc[ROWS][VECTORS], const uint8_t* x,
                           const float* factor, int64_t row_bytes) {
  for (int64_t r = 0; r < ROWS; ++r) {
    const Floats scale_x = set(read_float(x + r * row_bytes + ROW_SCALE_AT));
    for (int64_t v = 0; v < VECTORS; ++v) {
      const Floats scale = Block::HAS_FACTOR ? load(factor + v * LANES) * scale_x : scale_x;
      totals[r][v] = fma(acc[r][v], scale, totals[r][v]);
    }
  }
}

template <int64_t ROWS, int64_t VECTORS>
PALO_INLINE void set_zero(Floats acc[ROWS][VECTORS]) {
  for (int64_t r = 0; r < ROWS; ++r) {
    for (int64_t v = 0; v < VECTORS; ++v) acc[r][v] = set(0.0f);
  }
}

// ROWS rows x one panel, n_cols of whose outputs exist.
template <typename Block, int64_t ROWS>
void multiply_direct(float* out, const uint8_t* x, const uint8_t* panel, int64_t n_cols, const BlockProduct& product) {
  Floats totals[ROWS][BLOCK_VECTORS], parts[ROWS][BLOCK_VECTORS];
  set_zero<ROWS, BLOCK_VECTORS>(totals);
  for (int64_t b = 0; b < product.n_blocks; ++b) {
    const uint8_t* block = panel + b * Block::N_BYTES;
    alignas(64) float scales[Block::N_GROUPS * Block::N_SCALES * BLOCK_PANEL_WIDTH];
    alignas(64) float mins[Block::HAS_MINS ? Block::N_GROUPS * BLOCK_PANEL_WIDTH : 1];
    alignas(64) float factor[Block::HAS_FACTOR ? BLOCK_PANEL_WIDTH : 1];
    Block::scales({scales, mins, factor}, block);
    const uint8_t* groups = x + b * Block::N_GROUPS * ROW_GROUP_BYTES<Block>;
    set_zero<ROWS, BLOCK_VECTORS>(parts);
    const auto add_group = [&](int64_t g) PALO_INLINE_LAMBDA {
      prefetch_group<Block, ROWS>(block, g);
      for (int64_t v = 0; v < BLOCK_VECTORS; v += DIRECT_VECTORS) {
        const RowPointers<ROWS> rows(groups + g * ROW_GROUP_BYTES<Block>, product.row_bytes);
        add_direct_group<Block, ROWS>(Block::N_GROUPS == 1 ? totals : parts, rows, block, scales, mins, g, v);
      }
    };
    static_assert(Block::N_GROUPS % Block::PERIOD == 0);
    // Unrolled, each shifts by constants.
    for (int64_t g = 0; g < Block::N_GROUPS; g += Block::PERIOD) {
      PALO_UNROLL
      for (int64_t i = 0; i < Block::PERIOD; ++i) add_group(g + i);
    }
    if constexpr (Block::N_GROUPS > 1) {
      add_block<Block, ROWS, BLOCK_VECTORS>(totals, parts, groups, factor, product.row_bytes);
    }
  }
  for (int64_t r = 0; r < ROWS; ++r) {
    for (int64_t v = 0; v < BLOCK_VECTORS; ++v) {
      store_outputs(out + r * product.ldo + v * LANES, totals[r][v], n_cols - v * LANES);
    }
  }
}

// One group of ROWS rows with PANEL_VECTORS vectors of an unpacked piece, from vector v on.
template <typename Block, int64_t ROWS>
PALO_INLINE void add_unpacked_group(Floats acc[ROWS][PANEL_VECTORS], const uint8_t* x, const BlockPiece<Block>& piece,
                                    int64_t g, int64_t v_begin, int64_t row_bytes) {
  for (int64_t s = 0; s < Block::N_SCALES; ++s) {
    Ints sums[ROWS][PANEL_VECTORS];
    multiply_quads<Block, ROWS>(sums, x, piece, g, s, v_begin, row_bytes);
    for (int64_t v = 0; v < PANEL_VECTORS; ++v) {
      const Floats scale = load(piece.scales + ((g * Block::N_SCALES + s) * BLOCK_VECTORS + v_begin + v) * LANES);
      for (int64_t r = 0; r < ROWS; ++r) add_run<Block>(acc[r][v], sums[r][v], scale, x + r * row_bytes);
    }
  }
  if constexpr (Block::HAS_MINS) {
    for (int64_t r = 0; r < ROWS; ++r) {
      const Floats sum_x = set(read_float(x + r * row_bytes + ROW_START_AT));
      for (int64_t v = 0; v < PANEL_VECTORS; ++v) {
        acc[r][v] = fma(sum_x, load(piece.mins + (g * BLOCK_VECTORS + v_begin + v) * LANES), acc[r][v]);
      }
    }
  }
}

// n_groups of ROWS rows x PANEL_VECTORS vectors of a piece; `out` continues unless is_first.
// Lines of the next piece are asked for meanwhile.
template <typename Block, int64_t ROWS>
void multiply_unpacked(float* out, const uint8_t* x, const BlockPiece<Block>& piece, int64_t v_begin, int64_t n_cols,
                       int64_t n_groups, bool is_first, LinesAhead<Cache::FIRST>& ahead, const BlockProduct& product) {
  Floats totals[ROWS][PANEL_VECTORS], parts[ROWS][PANEL_VECTORS];
  for (int64_t r = 0; r < ROWS; ++r) {
    for (int64_t v = 0; v < PANEL_VECTORS; ++v) {
      totals[r][v] = is_first ? set(0.0f) : load_outputs(out + r * product.ldo + v * LANES, n_cols - v * LANES);
    }
  }
  for (int64_t g = 0; g < n_groups; g += Block::N_GROUPS) {
    const uint8_t* groups = x + g * ROW_GROUP_BYTES<Block>;
    if constexpr (!Q8_SUMS_IN_REGISTERS || Block::N_GROUPS > 1) PALO_KEEP_IN_MEMORY(totals);
    if constexpr (Block::N_GROUPS > 1) set_zero<ROWS, PANEL_VECTORS>(parts);
    for (int64_t i = 0; i < Block::N_GROUPS; ++i) {
      ahead.ask();
      add_unpacked_group<Block, ROWS>(Block::N_GROUPS == 1 ? totals : parts, groups + i * ROW_GROUP_BYTES<Block>, piece,
                                      g + i, v_begin, product.row_bytes);
    }
    if constexpr (Block::N_GROUPS > 1) {
      const float* factor =
          piece.factors + (Block::HAS_FACTOR ? (g / Block::N_GROUPS * BLOCK_VECTORS + v_begin) * LANES : 0);
      add_block<Block, ROWS, PANEL_VECTORS>(totals, parts, groups, factor, product.row_bytes);
    }
  }
  for (int64_t r = 0; r < ROWS; ++r) {
    for (int64_t v = 0; v < PANEL_VECTORS; ++v) {
      store_outputs(out + r * product.ldo + v * LANES, totals[r][v], n_cols - v * LANES);
    }
  }
}

// The instance of multiply_direct or multiply_unpacked for n_rows rows, at most ROWS.
template <typename Block, int64_t ROWS>
void multiply_direct_rows(int64_t n_rows, float* out, const uint8_t* x, const uint8_t* panel, int64_t n_cols,
                          const BlockProduct& product) {
  if constexpr (ROWS > 0) {
    if (n_rows == ROWS) {
      multiply_direct<Block, ROWS>(out, x, panel, n_cols, product);
    } else {
      multiply_direct_rows<Block, ROWS - 1>(n_rows, out, x, panel, n_cols, product);
    }
  }
}
template <typename Block, int64_t ROWS>
void multiply_unpacked_rows(int64_t n_rows, float* out, const uint8_t* x, const BlockPiece<Block>& piece,
                            int64_t v_begin, int64_t n_cols, int64_t n_groups, bool is_first,
                            LinesAhead<Cache::FIRST>& ahead, const BlockProduct& product) {
  if constexpr (ROWS > 0) {
    if (n_rows == ROWS) {
      multiply_unpacked<Block, ROWS>(out, x, piece, v_begin, n_cols, n_groups, is_first, ahead, product);
    } else {
      multiply_unpacked_rows<Block, ROWS - 1>(n_rows, out, x, piece, v_begin, n_cols, n_groups, is_first, ahead,
                                              product);
    }
  }
}

// n_blocks from block `b_begin` on of n_rows rows x one panel; `blocks` points to these blocks, `next` to those of the
// next piece.
template <typename Block>
void multiply_piece(float* out, const uint8_t* x, const uint8_t* blocks, const uint8_t* next, int64_t b_begin,
                    int64_t n_blocks, int64_t n_rows, int64_t n_cols, const BlockProduct& product) {
  BlockPiece<Block> piece;
  unpack_piece<Block>(piece, blocks, n_blocks);
  const uint8_t* first = x + b_begin * Block::N_GROUPS * ROW_GROUP_BYTES<Block>;
  const int64_t n_groups = n_blocks * Block::N_GROUPS;
  const int64_t n_row_tiles = (n_rows + UNPACKED_ROWS - 1) / UNPACKED_ROWS;
  const int64_t tile_rows = (n_rows + n_row_tiles - 1) / n_row_tiles;  // 8 rows: 4 and 4, not 6 and 2
  const int64_t n_tiles = n_row_tiles * (BLOCK_VECTORS / PANEL_VECTORS);
  LinesAhead<Cache::FIRST> ahead({next, n_blocks * Block::N_BYTES}, n_tiles * n_groups);
  for (int64_t v = 0; v < BLOCK_VECTORS && v * LANES < n_cols; v += PANEL_VECTORS) {
    for (int64_t r = 0; r < n_rows; r += tile_rows) {
      multiply_unpacked_rows<Block, UNPACKED_ROWS>(
          n_rows - r < tile_rows ? n_rows - r : tile_rows, out + r * product.ldo + v * LANES,
          first + r * product.row_bytes, piece, v, n_cols - v * LANES, n_groups, b_begin == 0, ahead, product);
    }
  }
}

// All rows of a pass with all panels: panel by panel where the rows fit into the second-level cache, else chunk by
// chunk of outputs with one piece's inputs in that cache.
template <typename Block>
void multiply_pass(float* out, const uint8_t* x, const uint8_t* panels, int64_t n_rows, int64_t n_out,
                   const BlockProduct& product) {
  constexpr int64_t PIECE = BLOCK_PIECE_GROUPS / Block::N_GROUPS;
  const int64_t panel_bytes = product.n_blocks * Block::N_BYTES;
  const int64_t chunk = n_rows * product.row_bytes <= CACHED_ROW_BYTES ? BLOCK_PANEL_WIDTH : CHUNK_OUTPUTS;
  for (int64_t begin = 0; begin < n_out; begin += chunk) {
    const int64_t end = begin + chunk < n_out ? begin + chunk : n_out;
    const uint8_t* first = panels + begin / BLOCK_PANEL_WIDTH * panel_bytes;
    for (int64_t b = 0; b < product.n_blocks; b += PIECE) {
      const int64_t n_blocks = b + PIECE < product.n_blocks ? PIECE : product.n_blocks - b;
      for (int64_t o = begin; o < end; o += BLOCK_PANEL_WIDTH) {
        const uint8_t* blocks = first + (o - begin) / BLOCK_PANEL_WIDTH * panel_bytes + b * Block::N_BYTES;
        const bool is_last = o + BLOCK_PANEL_WIDTH >= end;
        const uint8_t* next = is_last ? first + (b + PIECE) * Block::N_BYTES : blocks + panel_bytes;
        multiply_piece<Block>(out + o, x, blocks, next, b, n_blocks, n_rows, n_out - o, product);
      }
    }
  }
}

template <typename Block>
void multiply_blocks(float* out, const uint8_t* x, const uint8_t* panels, int64_t n_rows, int64_t n_out, int64_t n_in,
                     int64_t ldo) {
  const BlockProduct product{n_in / Block::LAYOUT.size, block_row_bytes<Block>(n_in), ldo};
  if (n_rows <= MOST_DIRECT_ROWS<Block>) {
    const int64_t tile = n_rows <= DIRECT_ROWS ? n_rows : (n_rows + 1) / 2;
    for (int64_t o = 0; o < n_out; o += BLOCK_PANEL_WIDTH) {
      const uint8_t* panel = panels + o / BLOCK_PANEL_WIDTH * product.n_blocks * Block::N_BYTES;
      for (int64_t r = 0; r < n_rows; r += tile) {
        multiply_direct_rows<Block, DIRECT_ROWS>(n_rows - r < tile ? n_rows - r : tile, out + r * product.ldo + o,
                                                 x + r * product.row_bytes, panel, n_out - o, product);
      }
    }
    return;
  }
  for (int64_t r = 0; r < n_rows; r += BLOCK_PASS_ROWS) {
    multiply_pass<Block>(out + r * ldo, x + r * product.row_bytes, panels,
                         n_rows - r < BLOCK_PASS_ROWS ? n_rows - r : BLOCK_PASS_ROWS, n_out, product);
  }
}

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
