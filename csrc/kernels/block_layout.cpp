// Packs rows of GGUF blocks into panels and back: moves words and halves without interpreting them.
#include "kernels/block_layout.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace palo {
namespace {

constexpr int64_t WIDTH = BLOCK_PANEL_WIDTH;

// Copies n values of N_BYTES: contiguous in a row's block, WIDTH values apart in the panel.
template <int64_t N_BYTES>
void spread(uint8_t* panel, const uint8_t* block, int64_t n) {
  for (int64_t i = 0; i < n; ++i) std::memcpy(panel + i * WIDTH * N_BYTES, block + i * N_BYTES, N_BYTES);
}
template <int64_t N_BYTES>
void gather(uint8_t* block, const uint8_t* panel, int64_t n) {
  for (int64_t i = 0; i < n; ++i) std::memcpy(block + i * N_BYTES, panel + i * WIDTH * N_BYTES, N_BYTES);
}

// Calls function(row, block) for every block of every row. Blocks smaller than a cache line are processed several at a
// time: rows are often a power of two apart, and then the first-level cache cannot keep a line of each of 32 rows until
// its next block.
template <BlockType TYPE, typename Function>
void for_blocks(int64_t n_out, int64_t n_in, Function function) {
  constexpr BlockLayout LAYOUT = BLOCK_LAYOUTS[static_cast<int>(TYPE)];
  constexpr int64_t STEP = std::max<int64_t>(1, 64 / LAYOUT.n_bytes);
  const int64_t n_blocks = n_in / LAYOUT.size;
  for (int64_t begin = 0; begin < n_blocks; begin += STEP) {
    for (int64_t o = 0; o < n_out; ++o) {
      for (int64_t b = begin; b < std::min(n_blocks, begin + STEP); ++b) function(o, b);
    }
  }
}

}  // namespace

template <BlockType TYPE>
int64_t block_panel_bytes(int64_t n_in) {
  constexpr const BlockLayout& LAYOUT = BLOCK_LAYOUTS[static_cast<int>(TYPE)];
  return n_in / LAYOUT.size * LAYOUT.n_bytes * WIDTH;
}

template <BlockType TYPE>
void pack_block_panel(uint8_t* panel, const uint8_t* rows, int64_t n_out, int64_t n_in, int64_t row_bytes) {
  constexpr BlockLayout LAYOUT = BLOCK_LAYOUTS[static_cast<int>(TYPE)];
  constexpr int64_t PANEL_BLOCK = LAYOUT.n_bytes * WIDTH;
  static_assert(PANEL_BLOCK % 64 == 0);
  if (n_out < WIDTH) std::memset(panel, 0, block_panel_bytes<TYPE>(n_in));
  for_blocks<TYPE>(n_out, n_in, [&](int64_t o, int64_t b) {
    uint8_t* to = panel + b * PANEL_BLOCK;
    const uint8_t* block = rows + o * row_bytes + b * LAYOUT.n_bytes;
    spread<2>(to + LAYOUT.halves_at * WIDTH + o * 2, block + LAYOUT.halves_at, LAYOUT.n_halves);
    spread<4>(to + LAYOUT.words_at * WIDTH + o * 4, block + LAYOUT.words_at, LAYOUT.n_words);
  });
}

template <BlockType TYPE>
void unpack_block_panel(uint8_t* rows, const uint8_t* panel, int64_t n_out, int64_t n_in, int64_t row_bytes) {
  constexpr BlockLayout LAYOUT = BLOCK_LAYOUTS[static_cast<int>(TYPE)];
  for_blocks<TYPE>(n_out, n_in, [&](int64_t o, int64_t b) {
    const uint8_t* from = panel + b * LAYOUT.n_bytes * WIDTH;
    uint8_t* block = rows + o * row_bytes + b * LAYOUT.n_bytes;
    gather<2>(block + LAYOUT.halves_at, from + LAYOUT.halves_at * WIDTH + o * 2, LAYOUT.n_halves);
    gather<4>(block + LAYOUT.words_at, from + LAYOUT.words_at * WIDTH + o * 4, LAYOUT.n_words);
  });
}

#define PALO_INSTANTIATE(TYPE)                                                                          \
  template int64_t block_panel_bytes<BlockType::TYPE>(int64_t);                                         \
  template void pack_block_panel<BlockType::TYPE>(uint8_t*, const uint8_t*, int64_t, int64_t, int64_t); \
  template void unpack_block_panel<BlockType::TYPE>(uint8_t*, const uint8_t*, int64_t, int64_t, int64_t)
PALO_INSTANTIATE(Q4_0);
PALO_INSTANTIATE(Q8_0);
PALO_INSTANTIATE(Q4_K);
PALO_INSTANTIATE(Q5_K);
PALO_INSTANTIATE(Q6_K);
PALO_INSTANTIATE(F16);
#undef PALO_INSTANTIATE

const BlockKernels& block_kernels(const KernelTable& kernels, BlockType type) {
  return kernels.blocks[static_cast<int>(type)];
}

}  // namespace palo
