// Shared by the tests of the block types: random blocks, and a second, plain implementation of their meaning.
#pragma once

#include <algorithm>
#include <string>

#include "kernels/block_kernels.h"
#include "kernels/half.h"
#include "simd_cases.h"

namespace block_cases {

using namespace simd_cases;
using palo::BlockKernels;
using palo::BlockType;

struct TypeFacts {
  BlockType type;
  const char* name;
  int64_t size, n_bytes;             // inputs and bytes of a block
  std::vector<int64_t> halves;       // where its f16 values are
  std::vector<int64_t> input_sizes;  // n_in to test
};

inline const std::vector<TypeFacts>& all_types() {
  static const std::vector<int64_t> by_32 = {32, 64, 544, 1056}, by_256 = {256, 512, 768, 1280};
  static const std::vector<TypeFacts> types = {
      {BlockType::Q4_0, "Q4_0", 32, 18, {0}, by_32},       {BlockType::Q8_0, "Q8_0", 32, 34, {0}, by_32},
      {BlockType::Q4_K, "Q4_K", 256, 144, {0, 2}, by_256}, {BlockType::Q5_K, "Q5_K", 256, 176, {0, 2}, by_256},
      {BlockType::Q6_K, "Q6_K", 256, 210, {208}, by_256},  {BlockType::F16, "F16", 1, 2, {0}, {1, 127, 128, 129, 300}},
  };
  return types;
}

inline double half_value(uint16_t half) {
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

// Any finite f16, now and then an extreme one: zeros of both signs, subnormals, the largest.
inline uint16_t draw_half(std::mt19937& random) {
  constexpr uint16_t EXTREMES[] = {0, 0x8000, 1, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00};
  if (random() % 16 == 0) return EXTREMES[random() % std::size(EXTREMES)];
  return static_cast<uint16_t>((random() & 0x83FF) | (8 + random() % 8) << 10);  // 2^-7 to 2
}

// n_rows rows of random blocks, row_bytes apart; what lies between rows is random too.
inline std::vector<uint8_t> draw_blocks(const TypeFacts& facts, int64_t n_rows, int64_t n_in, int64_t row_bytes) {
  std::mt19937 random(static_cast<unsigned>(n_in));
  std::vector<uint8_t> rows(n_rows * row_bytes);
  for (uint8_t& byte : rows) byte = static_cast<uint8_t>(random());
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t b = 0; b < n_in / facts.size; ++b) {
      for (const int64_t at : facts.halves) {
        const uint16_t half = draw_half(random);
        std::memcpy(&rows[r * row_bytes + b * facts.n_bytes + at], &half, 2);
      }
    }
  }
  return rows;
}

// Weight i of a block: the definitions in ggml's documentation of its block types.
inline double weight_of(const TypeFacts& facts, const uint8_t* block, int i) {
  const auto half = [&](int64_t at) {
    uint16_t bits;
    std::memcpy(&bits, block + at, 2);
    return half_value(bits);
  };
  const auto nibble = [](uint8_t byte, bool is_high) { return is_high ? byte >> 4 : byte & 15; };
  switch (facts.type) {
    case BlockType::Q4_0:
      return half(0) * (nibble(block[2 + i % 16], i >= 16) - 8);
    case BlockType::Q8_0:
      return half(0) * static_cast<int8_t>(block[2 + i]);
    case BlockType::Q6_K: {
      const int n = i / 128, l = i % 32, quarter = i % 128 / 32;
      const int low = nibble(block[n * 64 + quarter % 2 * 32 + l], quarter >= 2);
      const int q = low + 16 * (block[128 + n * 32 + l] >> (2 * quarter) & 3);
      return half(208) * static_cast<int8_t>(block[192 + i / 16]) * (q - 32);
    }
    case BlockType::F16:
      return half(0);
    default: {
      const uint8_t* s = block + 4;
      const bool is_q5 = facts.type == BlockType::Q5_K;
      const int j = i / 32;
      const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
      const int min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
      const uint8_t* quants = block + (is_q5 ? 48 : 16);
      const int fifth = is_q5 ? block[16 + i % 32] >> j & 1 : 0;
      return half(0) * scale * (nibble(quants[i / 64 * 32 + i % 32], i % 64 >= 32) + 16 * fifth) - half(2) * min;
    }
  }
}

// The quantized activations that the contract in block_kernels.h describes.
inline std::vector<double> quantized(const TypeFacts& facts, const float* x, int64_t n) {
  std::vector<double> values(x, x + n);
  if (facts.type == BlockType::F16) return values;
  const int64_t step = facts.size;  // inputs that share a scale
  for (int64_t begin = 0; begin < n; begin += step) {
    float absmax = 0.0f;
    for (int64_t i = begin; i < begin + step; ++i) absmax = std::max(absmax, std::abs(x[i]));
    const bool is_zero = absmax < 0x1p-120f;
    const float inverse = is_zero ? 0.0f : 127.0f / absmax, exact = is_zero ? 0.0f : absmax / 127.0f;
    const float rounded = exact < 65504.0f ? palo::half_to_float(palo::float_to_half(exact)) : exact;
    const float scale = step == 32 || is_zero ? rounded : 1.0f / inverse;
    for (int64_t i = begin; i < begin + step; ++i) values[i] = double{scale} * std::nearbyint(x[i] * inverse);
  }
  return values;
}

// Panels of rows of blocks, unpacked or multiplied by the kernels.
class Packed {
 public:
  Packed(const BlockKernels& kernels, const uint8_t* rows, int64_t n_out, int64_t n_in, int64_t row_bytes)
      : kernels_(kernels), n_out_(n_out), n_in_(n_in), panels_(n_panels() * kernels.panel_bytes(n_in)) {
    for_panels([&](uint8_t* panel, int64_t o, int64_t n) {
      kernels.pack_panel(panel, rows + o * row_bytes, n, n_in, row_bytes);
    });
  }
  std::vector<uint8_t> unpack(int64_t row_bytes) {
    std::vector<uint8_t> rows(n_out_ * row_bytes, 0xAB);
    for_panels([&](uint8_t* panel, int64_t o, int64_t n) {
      kernels_.unpack_panel(rows.data() + o * row_bytes, panel, n, n_in_, row_bytes);
    });
    return rows;
  }
  // Outputs [o_begin, o_begin + n_out) of n_rows rows of x; o_begin is a multiple of panel_width.
  void multiply(float* out, const std::vector<float>& x, int64_t n_rows, int64_t n_out, int64_t ldo,
                int64_t o_begin = 0) {
    Bytes rows(n_rows * kernels_.row_bytes(n_in_));
    kernels_.quantize_rows(rows.data(), x.data(), n_rows, n_in_, n_in_);
    kernels_.multiply(out, rows.data(), panels_.data() + o_begin / kernels_.panel_width * kernels_.panel_bytes(n_in_),
                      n_rows, n_out, n_in_, ldo);
  }

 private:
  int64_t n_panels() const { return (n_out_ + kernels_.panel_width - 1) / kernels_.panel_width; }
  template <typename Function>
  void for_panels(Function function) {
    for (int64_t p = 0; p < n_panels(); ++p) {
      const int64_t o = p * kernels_.panel_width;
      function(panels_.data() + p * kernels_.panel_bytes(n_in_), o, std::min(kernels_.panel_width, n_out_ - o));
    }
  }

  const BlockKernels& kernels_;
  int64_t n_out_, n_in_;
  Bytes panels_;
};

}  // namespace block_cases
