// The block types in terms of 16 lanes (block_layout.h: their layout in a panel).
//
// Each type defines for one block of a panel: quad(g, t, v), the weights of inputs 4 t to 4 t + 3 of group g of 32, for
// the 16 outputs of vector v, as bytes q + OFFSET of 16 lanes; and scales(), which fills BlockScales. Products of f16
// scales and six-bit ones are exact in f32.
#pragma once

#include "kernels/block_layout.h"

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr int64_t BLOCK_VECTORS = BLOCK_PANEL_WIDTH / LANES;
static_assert(BLOCK_VECTORS == 2);

constexpr int32_t LOW_NIBBLES = 0x0F0F0F0F;

// f32, of 32 outputs each: scales [n_groups][N_SCALES]; where the type has minimums, mins [n_groups], -dmin * m; and
// where it HAS_FACTOR, the block's factor, which multiplies scales that are integers.
struct BlockScales {
  float *scales, *mins, *factor;
};

template <BlockType TYPE>
struct BlockBase {
  static constexpr BlockLayout LAYOUT = BLOCK_LAYOUTS[static_cast<int>(TYPE)];
  static constexpr BlockType BLOCK_TYPE = TYPE;
  static constexpr int64_t N_GROUPS = LAYOUT.size / BLOCK_GROUP;
  static constexpr int64_t N_BYTES = LAYOUT.n_bytes * BLOCK_PANEL_WIDTH;
  static constexpr int64_t MAX_BYTE = 15;  // the largest that quad() returns
  static constexpr int64_t N_SCALES = 1;   // per group
  static constexpr int32_t OFFSET = 0;     // bytes are weights plus this
  static constexpr bool HAS_MINS = false;
  static constexpr bool HAS_FACTOR = false;
  static constexpr bool IS_SIGNED = false;  // bytes for add_signed_quad
  static constexpr int64_t PERIOD = 1;      // groups until quad() shifts by the same numbers again

  // Word i of the block, of 16 outputs.
  PALO_INLINE static Ints word(const uint8_t* block, int64_t i, int64_t v) {
    return load_ints(block + (LAYOUT.words_at + 4 * i) * BLOCK_PANEL_WIDTH + v * LANES * 4);
  }
  PALO_INLINE static Floats half(const uint8_t* block, int64_t i, int64_t v) {
    return load_halves(block + (LAYOUT.halves_at + 2 * i) * BLOCK_PANEL_WIDTH + v * LANES * 2);
  }
  PALO_INLINE static void scales(BlockScales out, const uint8_t* block) {
    for (int64_t v = 0; v < BLOCK_VECTORS; ++v) store(out.scales + v * LANES, half(block, 0, v));
  }
};

struct BlockQ4_0 : BlockBase<BlockType::Q4_0> {
  static constexpr int32_t OFFSET = 8;

  PALO_INLINE static Ints quad(const uint8_t* block, int64_t, int64_t t, int64_t v) {
    return shift_right(word(block, t % 4, v), t / 4 * 4) & set_ints(LOW_NIBBLES);
  }
};

struct BlockQ8_0 : BlockBase<BlockType::Q8_0> {
  static constexpr int64_t MAX_BYTE = 255;
  static constexpr int32_t OFFSET = SIGNED_OFFSET;
  static constexpr bool IS_SIGNED = true;

  PALO_INLINE static Ints quad(const uint8_t* block, int64_t, int64_t t, int64_t v) {
    return move_signed(word(block, t, v));
  }
};

// Byte i of each lane, all of whose bytes are below 64.
PALO_INLINE Ints six_bits_of(Ints x, int64_t i) {
#ifdef PALO_HAS_BYTE_MOVES
  return signed_byte(x, i);
#else
  return shift_right(x, i * 8) & set_ints(63);
#endif
}

// Bit g of each byte as its bit 4, the others 0.
PALO_INLINE Ints fifth_bits(Ints x, int64_t g) {
#ifdef PALO_HAS_BYTE_MOVES
  return rotate_right(x, g - 4) & set_ints(0x10101010);
#else
  return shift_left(shift_right(x, g) & set_ints(0x01010101), 4);
#endif
}

// Scales of Q4_K and Q5_K: words 0 to 2 hold 8 scales and 8 minimums of six bits. Those of the first four groups are
// the low six bits of words 0 and 1; the others have their low four bits in word 2, the upper two on top of words 0, 1.
template <typename Block>
PALO_INLINE void unpack_k_scales(BlockScales out, const uint8_t* block) {
  const Ints six_bits = set_ints(0x3F3F3F3F), two_bits = set_ints(0x30303030), nibbles = set_ints(LOW_NIBBLES);
  for (int64_t v = 0; v < BLOCK_VECTORS; ++v) {
    const Floats d = Block::half(block, 0, v), minus_dmin = set(-1.0f) * Block::half(block, 1, v);
    const Ints a = Block::word(block, 0, v), b = Block::word(block, 1, v), c = Block::word(block, 2, v);
    const Ints scales[2] = {a & six_bits, (c & nibbles) | (shift_right(a, 2) & two_bits)};
    const Ints mins[2] = {b & six_bits, (shift_right(c, 4) & nibbles) | (shift_right(b, 2) & two_bits)};
    PALO_UNROLL
    for (int64_t g = 0; g < 8; ++g) {
      const int64_t at = (g * BLOCK_VECTORS + v) * LANES;
      store(out.scales + at, d * to_floats(six_bits_of(scales[g / 4], g % 4)));
      store(out.mins + at, minus_dmin * to_floats(six_bits_of(mins[g / 4], g % 4)));
    }
  }
}

struct BlockQ4_K : BlockBase<BlockType::Q4_K> {
  static constexpr int64_t PERIOD = 2;
  static constexpr bool HAS_MINS = true;

  PALO_INLINE static Ints quad(const uint8_t* block, int64_t g, int64_t t, int64_t v) {
    return shift_right(word(block, 3 + g / 2 * 8 + t, v), g % 2 * 4) & set_ints(LOW_NIBBLES);
  }
  PALO_INLINE static void scales(BlockScales out, const uint8_t* block) { unpack_k_scales<BlockQ4_K>(out, block); }
};

// As Q4_K; bit g of byte i of the words from 3 on is the fifth bit of input i of group g.
struct BlockQ5_K : BlockBase<BlockType::Q5_K> {
  static constexpr int64_t MAX_BYTE = 31;
#ifdef PALO_HAS_BYTE_MOVES
  static constexpr int64_t PERIOD = 2;  // of the low bits alone: all eight groups would be too much code
#endif
  static constexpr bool HAS_MINS = true;

  PALO_INLINE static Ints quad(const uint8_t* block, int64_t g, int64_t t, int64_t v) {
    const Ints low = shift_right(word(block, 11 + g / 2 * 8 + t, v), g % 2 * 4) & set_ints(LOW_NIBBLES);
    return low | fifth_bits(word(block, 3 + t, v), g);
  }
  PALO_INLINE static void scales(BlockScales out, const uint8_t* block) { unpack_k_scales<BlockQ5_K>(out, block); }
};

// Two halves of 128 inputs. Of each: words 0 to 15 hold the low four bits (groups 0 and 1 in the low nibbles, 2 and 3
// in the high ones), words 32 to 39 two upper bits of each of the four groups. Words 48 to 51: 16 scales of eight bits.
struct BlockQ6_K : BlockBase<BlockType::Q6_K> {
  static constexpr int64_t MAX_BYTE = 63;
  static constexpr int32_t OFFSET = 32;
  static constexpr int64_t N_SCALES = 2;
  static constexpr int64_t PERIOD = 4;
  static constexpr bool HAS_FACTOR = true;

  PALO_INLINE static Ints quad(const uint8_t* block, int64_t g, int64_t t, int64_t v) {
    const int64_t half = g / 4, part = g % 4;
    const Ints low = word(block, half * 16 + part % 2 * 8 + t, v), high = word(block, 32 + half * 8 + t, v);
    const Ints moved = part < 2 ? shift_left(high, 4 - part * 2) : shift_right(high, part * 2 - 4);
    return (shift_right(low, part / 2 * 4) & set_ints(LOW_NIBBLES)) | (moved & set_ints(0x30303030));
  }
  PALO_INLINE static void scales(BlockScales out, const uint8_t* block) {
    for (int64_t v = 0; v < BLOCK_VECTORS; ++v) {
      store(out.factor + v * LANES, half(block, 0, v));
      for (int64_t i = 0; i < 16; ++i) {
        const Ints scale = signed_byte(word(block, 48 + i / 4, v), i % 4);
        store(out.scales + (i * BLOCK_VECTORS + v) * LANES, to_floats(scale));
      }
    }
  }
};

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
