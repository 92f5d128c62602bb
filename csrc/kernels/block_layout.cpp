// Packs rows of GGUF blocks into panels and back: moves words and halves, looks into none of them.
#include "kernels/block_layout.h"

#include <bit>
#include <cstring>

namespace palo {
namespace {

constexpr int64_t WIDTH = BLOCK_PANEL_WIDTH;

// n values of N_BYTES: one row's of a block, side by side, and the same in the panel, WIDTH apart.
template <int64_t N_BYTES>
void spread(uint8_t* panel, const uint8_t* block, int64_t n) {
  for (int64_t i = 0; i < n; ++i) std::memcpy(panel + i * WIDTH * N_BYTES, block + i * N_BYTES, N_BYTES);
}
template <int64_t N_BYTES>
void gather(uint8_t* block, const uint8_t* panel, int64_t n) {
  for (int64_t i = 0; i < n; ++i) std::memcpy(block + i * N_BYTES, panel + i * WIDTH * N_BYTES, N_BYTES);
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
  for (int64_t b = 0; b < n_in / LAYOUT.size; ++b) {
    uint8_t* to = panel + b * PANEL_BLOCK;
    if (n_out < WIDTH) std::memset(to, 0, PANEL_BLOCK);
    for (int64_t o = 0; o < n_out; ++o) {
      const uint8_t* block = rows + o * row_bytes + b * LAYOUT.n_bytes;
      spread<2>(to + LAYOUT.halves_at * WIDTH + o * 2, block + LAYOUT.halves_at, LAYOUT.n_halves);
      spread<4>(to + LAYOUT.words_at * WIDTH + o * 4, block + LAYOUT.words_at, LAYOUT.n_words);
    }
  }
}

template <BlockType TYPE>
void unpack_block_panel(uint8_t* rows, const uint8_t* panel, int64_t n_out, int64_t n_in, int64_t row_bytes) {
  constexpr BlockLayout LAYOUT = BLOCK_LAYOUTS[static_cast<int>(TYPE)];
  for (int64_t b = 0; b < n_in / LAYOUT.size; ++b) {
    const uint8_t* from = panel + b * LAYOUT.n_bytes * WIDTH;
    for (int64_t o = 0; o < n_out; ++o) {
      uint8_t* block = rows + o * row_bytes + b * LAYOUT.n_bytes;
      gather<2>(block + LAYOUT.halves_at, from + LAYOUT.halves_at * WIDTH + o * 2, LAYOUT.n_halves);
      gather<4>(block + LAYOUT.words_at, from + LAYOUT.words_at * WIDTH + o * 4, LAYOUT.n_words);
    }
  }
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
