// Products with GGUF's block types on the portable instruction set: plain loops, in the order that block_kernels.h
// prescribes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/block_layout.h"
#include "kernels/ref.h"

namespace palo::ref {
namespace {

constexpr int64_t WIDTH = BLOCK_PANEL_WIDTH, GROUP = BLOCK_GROUP;
constexpr float LARGEST_HALF = 65504.0f;

// BLOCK_GROUP weights of one output: weight[i] = factor * scale[i / (GROUP / n_scales)] * q[i] + min.
struct WeightGroup {
  int32_t q[GROUP];
  int64_t n_scales;
  float scale[2];
  float min;
  bool has_min;
  float factor = 1.0f;  // the block's
};

// One output's part of a panel's block.
class PanelBlock {
 public:
  PanelBlock(const uint8_t* block, int64_t output, const BlockLayout& layout)
      : block_(block), output_(output), layout_(layout) {}

  float half(int64_t i) const { return read_half(block_ + layout_.halves_at * WIDTH + (i * WIDTH + output_) * 2); }
  // Byte i of the block's words.
  uint8_t byte(int64_t i) const { return block_[layout_.words_at * WIDTH + (i / 4 * WIDTH + output_) * 4 + i % 4]; }

 private:
  const uint8_t* block_;
  int64_t output_;
  const BlockLayout& layout_;
};

WeightGroup q4_0_group(const PanelBlock& block, int64_t) {
  WeightGroup w{{}, 1, {block.half(0)}, 0.0f, false};
  for (int i = 0; i < GROUP; ++i) w.q[i] = (block.byte(i % 16) >> (i < 16 ? 0 : 4) & 15) - 8;
  return w;
}

WeightGroup q8_0_group(const PanelBlock& block, int64_t) {
  WeightGroup w{{}, 1, {block.half(0)}, 0.0f, false};
  for (int i = 0; i < GROUP; ++i) w.q[i] = static_cast<int8_t>(block.byte(i));
  return w;
}

// Six-bit scale and min of group g, from the 12 bytes that Q4_K and Q5_K begin with.
WeightGroup k_scales(const PanelBlock& block, int64_t g) {
  const int64_t j = g % 4;
  const int scale = g < 4 ? block.byte(j) & 63 : (block.byte(8 + j) & 15) | block.byte(j) >> 6 << 4;
  const int min = g < 4 ? block.byte(4 + j) & 63 : block.byte(8 + j) >> 4 | block.byte(4 + j) >> 6 << 4;
  return {{}, 1, {block.half(0) * static_cast<float>(scale)}, -1.0f * block.half(1) * static_cast<float>(min), true};
}

WeightGroup q4_k_group(const PanelBlock& block, int64_t g) {
  WeightGroup w = k_scales(block, g);
  for (int64_t i = 0; i < GROUP; ++i) w.q[i] = block.byte(12 + g / 2 * 32 + i) >> g % 2 * 4 & 15;
  return w;
}

WeightGroup q5_k_group(const PanelBlock& block, int64_t g) {
  WeightGroup w = k_scales(block, g);
  for (int64_t i = 0; i < GROUP; ++i) {
    w.q[i] = (block.byte(44 + g / 2 * 32 + i) >> g % 2 * 4 & 15) | (block.byte(12 + i) >> g & 1) << 4;
  }
  return w;
}

WeightGroup q6_k_group(const PanelBlock& block, int64_t g) {
  WeightGroup w{{}, 2, {}, 0.0f, false, block.half(0)};
  const int64_t half = g / 4, part = g % 4;
  for (int64_t i = 0; i < 2; ++i) {
    w.scale[i] = static_cast<float>(static_cast<int8_t>(block.byte(192 + 2 * g + i)));
  }
  for (int64_t i = 0; i < GROUP; ++i) {
    const int low = block.byte(half * 64 + part % 2 * 32 + i) >> part / 2 * 4 & 15;
    w.q[i] = (low | (block.byte(128 + half * 32 + i) >> 2 * part & 3) << 4) - 32;
  }
  return w;
}

// A group of a quantized row.
struct RowGroup {
  int8_t q[GROUP];
  float scale;
};

// Quantizes n inputs that share a scale into their groups.
void quantize_run(RowGroup* groups, const float* x, int64_t n) {
  float absmax = 0.0f;
  for (int64_t i = 0; i < n; ++i) absmax = std::max(absmax, std::abs(x[i]));
  const bool is_zero = absmax < 0x1p-120f;
  const float inverse = is_zero ? 0.0f : 127.0f / absmax, exact = is_zero ? 0.0f : absmax / 127.0f;
  const float rounded = exact < LARGEST_HALF ? half_to_float(float_to_half(exact)) : exact;
  const float scale = n == GROUP || is_zero ? rounded : 1.0f / inverse;
  for (int64_t i = 0; i < n; ++i) {
    groups[i / GROUP].scale = scale;
    // fmin and fmax turn a NaN into a number, which static_cast needs.
    groups[i / GROUP].q[i % GROUP] =
        static_cast<int8_t>(std::fmax(std::fmin(std::nearbyint(x[i] * inverse), 127.0f), -127.0f));
  }
}

int64_t row_bytes(int64_t n_in) {
  return (n_in / GROUP * int64_t{sizeof(RowGroup)} + 63) / 64 * 64;
}

template <BlockType TYPE>
void quantize_rows(uint8_t* out, const float* x, int64_t n_rows, int64_t n_in, int64_t ldx) {
  constexpr int64_t N = BLOCK_LAYOUTS[static_cast<int>(TYPE)].size;  // inputs that share a scale
  for (int64_t r = 0; r < n_rows; ++r) {
    auto* groups = reinterpret_cast<RowGroup*>(out + r * row_bytes(n_in));
    for (int64_t i = 0; i < n_in; i += N) quantize_run(groups + i / GROUP, x + r * ldx + i, N);
  }
}

float add_group(float part, const RowGroup& x, const WeightGroup& w) {
  const int64_t n = GROUP / w.n_scales;
  int32_t sum_of_inputs = 0;
  for (int64_t s = 0; s < w.n_scales; ++s) {
    int32_t sum = 0;
    for (int64_t i = s * n; i < (s + 1) * n; ++i) {
      sum += x.q[i] * w.q[i];
      sum_of_inputs += x.q[i];
    }
    part = std::fma(static_cast<float>(sum), w.scale[s], part);
  }
  return w.has_min ? std::fma(static_cast<float>(sum_of_inputs), w.min, part) : part;
}

template <BlockType TYPE, WeightGroup (*GROUP_OF)(const PanelBlock&, int64_t)>
void multiply(float* out, const uint8_t* x, const uint8_t* panels, int64_t n_rows, int64_t n_out, int64_t n_in,
              int64_t ldo) {
  constexpr const BlockLayout& LAYOUT = BLOCK_LAYOUTS[static_cast<int>(TYPE)];
  constexpr int64_t N_GROUPS = LAYOUT.size / GROUP;
  for (int64_t o = 0; o < n_out; ++o) {
    const uint8_t* panel = panels + o / WIDTH * block_panel_bytes<TYPE>(n_in);
    for (int64_t r = 0; r < n_rows; ++r) out[r * ldo + o] = 0.0f;
    for (int64_t b = 0; b < n_in / LAYOUT.size; ++b) {
      const PanelBlock block(panel + b * LAYOUT.n_bytes * WIDTH, o % WIDTH, LAYOUT);
      WeightGroup groups[N_GROUPS];
      for (int64_t g = 0; g < N_GROUPS; ++g) groups[g] = GROUP_OF(block, g);
      for (int64_t r = 0; r < n_rows; ++r) {
        const auto* row = reinterpret_cast<const RowGroup*>(x + r * row_bytes(n_in)) + b * N_GROUPS;
        float part = 0.0f;
        for (int64_t g = 0; g < N_GROUPS; ++g) part = add_group(part, row[g], groups[g]);
        out[r * ldo + o] = std::fma(part, groups->factor * row->scale, out[r * ldo + o]);
      }
    }
  }
}

int64_t f16_row_bytes(int64_t n_in) {
  return (n_in * int64_t{sizeof(float)} + 63) / 64 * 64;
}

void copy_rows(uint8_t* out, const float* x, int64_t n_rows, int64_t n_in, int64_t ldx) {
  for (int64_t r = 0; r < n_rows; ++r) std::memcpy(out + r * f16_row_bytes(n_in), x + r * ldx, n_in * sizeof(float));
}

void multiply_f16(float* out, const uint8_t* x, const uint8_t* panels, int64_t n_rows, int64_t n_out, int64_t n_in,
                  int64_t ldo) {
  constexpr const BlockLayout& LAYOUT = BLOCK_LAYOUTS[static_cast<int>(BlockType::F16)];
  for (int64_t r = 0; r < n_rows; ++r) {
    const auto* row = reinterpret_cast<const float*>(x + r * f16_row_bytes(n_in));
    for (int64_t o = 0; o < n_out; ++o) {
      const uint8_t* panel = panels + o / WIDTH * block_panel_bytes<BlockType::F16>(n_in);
      float total = 0.0f;
      for (int64_t begin = 0; begin < n_in; begin += F16_SUM) {
        float sum = 0.0f;
        for (int64_t i = begin; i < std::min(n_in, begin + F16_SUM); ++i) {
          sum = std::fma(row[i], PanelBlock(panel + i * LAYOUT.n_bytes * WIDTH, o % WIDTH, LAYOUT).half(0), sum);
        }
        total += sum;
      }
      out[r * ldo + o] = total;
    }
  }
}

template <BlockType TYPE, WeightGroup (*GROUP_OF)(const PanelBlock&, int64_t)>
constexpr BlockKernels kernels_of() {
  return {
      .type = TYPE,
      .panel_width = WIDTH,
      .block_size = BLOCK_LAYOUTS[static_cast<int>(TYPE)].size,
      .panel_bytes = block_panel_bytes<TYPE>,
      .pack_panel = pack_block_panel<TYPE>,
      .unpack_panel = unpack_block_panel<TYPE>,
      .row_bytes = row_bytes,
      .quantize_rows = quantize_rows<TYPE>,
      .multiply = multiply<TYPE, GROUP_OF>,
  };
}

constexpr BlockKernels f16_kernels() {
  BlockKernels kernels = kernels_of<BlockType::F16, q8_0_group>();
  kernels.row_bytes = f16_row_bytes;
  kernels.quantize_rows = copy_rows;
  kernels.multiply = multiply_f16;
  return kernels;
}

}  // namespace

const BlockKernels* block_kernels() {
  static constexpr BlockKernels KERNELS[N_BLOCK_TYPES] = {
      kernels_of<BlockType::Q4_0, q4_0_group>(), kernels_of<BlockType::Q8_0, q8_0_group>(),
      kernels_of<BlockType::Q4_K, q4_k_group>(), kernels_of<BlockType::Q5_K, q5_k_group>(),
      kernels_of<BlockType::Q6_K, q6_k_group>(), f16_kernels()};
  return KERNELS;
}

}  // namespace palo::ref
