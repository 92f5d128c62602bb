// The table of the block types' kernels.
#pragma once

#include "kernels/simd/block_f16.h"

namespace palo::PALO_SIMD_ISA {
namespace {

template <typename Block>
constexpr BlockKernels block_kernels_of() {
  return {
      .type = Block::BLOCK_TYPE,
      .panel_width = BLOCK_PANEL_WIDTH,
      .block_size = Block::LAYOUT.size,
      .panel_bytes = block_panel_bytes<Block::BLOCK_TYPE>,
      .pack_panel = pack_block_panel<Block::BLOCK_TYPE>,
      .unpack_panel = unpack_block_panel<Block::BLOCK_TYPE>,
      .row_bytes = block_row_bytes<Block>,
      .quantize_rows = quantize_block_rows<Block>,
      .multiply = multiply_blocks<Block>,
  };
}

constexpr BlockKernels BLOCK_KERNELS[N_BLOCK_TYPES] = {
    block_kernels_of<BlockQ4_0>(),
    block_kernels_of<BlockQ8_0>(),
    block_kernels_of<BlockQ4_K>(),
    block_kernels_of<BlockQ5_K>(),
    block_kernels_of<BlockQ6_K>(),
    {
        .type = BlockType::F16,
        .panel_width = BLOCK_PANEL_WIDTH,
        .block_size = 1,
        .panel_bytes = block_panel_bytes<BlockType::F16>,
        .pack_panel = pack_block_panel<BlockType::F16>,
        .unpack_panel = unpack_block_panel<BlockType::F16>,
        .row_bytes = f16_row_bytes,
        .quantize_rows = copy_rows,
        .multiply = multiply_f16,
    },
};

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
