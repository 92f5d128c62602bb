// The layout of GGUF's blocks in a panel. It is the same for every instruction set, so packing is written once.
//
// A panel holds BLOCK_PANEL_WIDTH rows of weights, block after block. A block of the file is f16 scales and 32-bit
// words (four quants, eight nibbles or four packed scales each); in the panel each scale and each word of the block
// becomes a vector over the rows, in the file's order:
//   type   file's block                                     panel's block
//   Q4_0   f16 d, 16 bytes qs                               u16 d[32], u32 qs[4][32]
//   Q8_0   f16 d, 32 bytes qs                               u16 d[32], u32 qs[8][32]
//   Q4_K   f16 d, f16 dmin, 12 scales, 128 qs               u16 d[32], u16 dmin[32], u32 scales[3][32], qs[32][32]
//   Q5_K   f16 d, f16 dmin, 12 scales, 32 qh, 128 qs        as Q4_K with u32 qh[8][32] before qs
//   Q6_K   128 ql, 64 qh, 16 scales, f16 d                  u32 ql[32][32], qh[16][32], scales[4][32], u16 d[32]
//   F16    one f16                                          u16 w[32]
// The low nibbles of a word are four neighbouring inputs, the high ones four others: one AND or one shift gives 16 rows
// of bytes for a dot product. For the meaning of the bits see ggml's ggml-quants.c, dequantize_row_*.
#pragma once

#include <cstdint>

#include "kernels/block_kernels.h"
#include "kernels/half.h"

namespace palo {

constexpr int64_t BLOCK_PANEL_WIDTH = 32;

// Inputs per group of a quantized row: the fewest that share a scale of activations, as in llama.cpp.
constexpr int64_t BLOCK_GROUP = 32;

struct BlockLayout {
  int64_t size;       // inputs per block
  int64_t n_bytes;    // of a block in the file; a panel's block has BLOCK_PANEL_WIDTH times as many
  int64_t n_halves;   // f16 values of a block, at halves_at
  int64_t halves_at;  // in the file; times BLOCK_PANEL_WIDTH in the panel, as words_at
  int64_t n_words;
  int64_t words_at;
};

inline constexpr BlockLayout BLOCK_LAYOUTS[N_BLOCK_TYPES] = {
    {32, 18, 1, 0, 4, 2},       // Q4_0
    {32, 34, 1, 0, 8, 2},       // Q8_0
    {256, 144, 2, 0, 35, 4},    // Q4_K
    {256, 176, 2, 0, 43, 4},    // Q5_K
    {256, 210, 1, 208, 52, 0},  // Q6_K
    {1, 2, 1, 0, 0, 2},         // F16
};

// The functions of BlockKernels with these names, for every instruction set.
template <BlockType TYPE>
int64_t block_panel_bytes(int64_t n_in);
template <BlockType TYPE>
void pack_block_panel(uint8_t* panel, const uint8_t* rows, int64_t n_out, int64_t n_in, int64_t row_bytes);
template <BlockType TYPE>
void unpack_block_panel(uint8_t* rows, const uint8_t* panel, int64_t n_out, int64_t n_in, int64_t row_bytes);

}  // namespace palo
