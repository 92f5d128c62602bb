// The int8 path of every instruction set against the plain loop that kernel_table.h describes, bit for bit.
#include <algorithm>
#include <cmath>

#include "simd_cases.h"

namespace {

using namespace simd_cases;
using palo::Q8_GROUP;

constexpr int64_t INPUTS[] = {1, 15, 16, 17, 63, 64, 65, 128, 200, 16 * Q8_GROUP + 1, 2100};
constexpr int64_t OUTPUTS[] = {1, 15, 16, 17, 31, 32, 33, 40};
constexpr int64_t MAX_OUTPUTS = 40;
constexpr int64_t MAX_ROWS = 13;

struct QuantizedRow {
  std::vector<int8_t> q;
  std::vector<float> scales;
};

QuantizedRow quantize(const float* x, int64_t n) {
  QuantizedRow row;
  for (int64_t begin = 0; begin < n; begin += Q8_GROUP) {
    const int64_t end = std::min(n, begin + Q8_GROUP);
    float absmax = 0.0f;
    for (int64_t i = begin; i < end; ++i) absmax = std::max(absmax, std::abs(x[i]));
    const bool is_zero = absmax < 0x1p-120f;
    const float inverse = is_zero ? 0.0f : 127.0f / absmax;
    row.scales.push_back(is_zero ? 0.0f : absmax / 127.0f);
    for (int64_t i = begin; i < end; ++i) row.q.push_back(static_cast<int8_t>(std::nearbyint(x[i] * inverse)));
  }
  return row;
}

float dot(const QuantizedRow& x, const QuantizedRow& w) {
  float sum = 0.0f;
  for (size_t g = 0; g < x.scales.size(); ++g) {
    int32_t products = 0;
    const size_t end = std::min(x.q.size(), (g + 1) * Q8_GROUP);
    for (size_t i = g * Q8_GROUP; i < end; ++i) products += x.q[i] * w.q[i];
    sum = std::fma(static_cast<float>(products), x.scales[g] * w.scales[g], sum);
  }
  return sum;
}

// x [MAX_ROWS, n_in], w [MAX_OUTPUTS, n_in], and their product by plain loops.
struct Case {
  Case(int64_t n, Values of_x, Values of_w)
      : n_in(n), x(draw(MAX_ROWS * n, 1, of_x)), w(draw(MAX_OUTPUTS * n, 2, of_w)) {
    bias = draw(MAX_OUTPUTS, 3);
    std::vector<QuantizedRow> weights;
    for (int64_t o = 0; o < MAX_OUTPUTS; ++o) weights.push_back(quantize(&w[o * n], n));
    for (int64_t r = 0; r < MAX_ROWS; ++r) {
      const QuantizedRow row = quantize(&x[r * n], n);
      for (const QuantizedRow& weight : weights) product.push_back(dot(row, weight));
    }
  }
  int64_t n_in;
  std::vector<float> x, w, bias, product;
};

int64_t n_groups(int64_t n_in) {
  return (n_in + Q8_GROUP - 1) / Q8_GROUP;
}

// The first n_out weights of a case as panels, from a copy of exactly their size, outputs or inputs side by side.
struct Panels {
  Panels(const KernelTable& kernels, const Case& c, int64_t n, bool is_transposed)
      : n_out(n), bytes((n + kernels.q8_panel_width - 1) / kernels.q8_panel_width * bytes_of_one(kernels, c.n_in)) {
    const int64_t width = kernels.q8_panel_width, stride_out = is_transposed ? 1 : c.n_in;
    std::vector<float> w(c.w.begin(), c.w.begin() + n_out * c.n_in);
    for (int64_t i = 0; is_transposed && i < n_out * c.n_in; ++i) w[i] = c.w[i % n_out * c.n_in + i / n_out];
    for (int64_t o = 0; o < n_out; o += width) {
      kernels.pack_q8_panel(bytes.data() + o / width * bytes_of_one(kernels, c.n_in), w.data() + o * stride_out,
                            std::min(width, n_out - o), c.n_in, stride_out, is_transposed ? n_out : 1);
    }
  }
  static int64_t bytes_of_one(const KernelTable& kernels, int64_t n_in) {
    return n_groups(n_in) * kernels.q8_panel_group_bytes;
  }
  int64_t n_out;
  Bytes bytes;
};

// n_rows x n_out of the product, and one float more per row that must stay as it is.
void check(const KernelTable& kernels, const Case& c, Panels& panels, int64_t n_rows, bool has_bias) {
  const int64_t n_out = panels.n_out, ldo = n_out + 1;
  Bytes rows(n_rows * n_groups(c.n_in) * kernels.q8_row_group_bytes);
  const std::vector<float> x(c.x.begin(), c.x.begin() + n_rows * c.n_in);
  kernels.quantize_rows(rows.data(), x.data(), n_rows, c.n_in, c.n_in);
  std::vector<float> out(n_rows * ldo, -777.0f);
  kernels.linear_q8(out.data(), rows.data(), panels.bytes.data(), has_bias ? c.bias.data() : nullptr, n_rows, n_out,
                    c.n_in, ldo);
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t o = 0; o < n_out; ++o) {
      const float sum = c.product[r * MAX_OUTPUTS + o], expected = has_bias ? sum + c.bias[o] : sum;
      CHECK(are_equal_bits(&out[r * ldo + o], &expected, 1));
    }
    CHECK(out[r * ldo + n_out] == -777.0f);
  }
}

void check_shapes(const Case& c) {
  for (const KernelTable* kernels : simd_tables()) {
    Panels panels(*kernels, c, MAX_OUTPUTS, false);
    for (int64_t n_rows = 1; n_rows <= MAX_ROWS; ++n_rows) check(*kernels, c, panels, n_rows, n_rows % 2 == 0);
    for (const int64_t n_out : OUTPUTS) {
      Panels by_outputs(*kernels, c, n_out, false), by_inputs(*kernels, c, n_out, true);
      check(*kernels, c, by_outputs, 2, n_out % 2 == 0);
      check(*kernels, c, by_inputs, 2, n_out % 2 == 1);
    }
  }
}

TEST(linear_q8_equals_the_plain_loop) {
  for (const int64_t n_in : INPUTS) {
    for (const Values kind : ALL_VALUES) check_shapes(Case(n_in, kind, kind));
  }
}

// If both operands are small every product is zero, even if one of them is handled wrongly.
TEST(linear_q8_of_one_small_operand_equals_the_plain_loop) {
  for (const int64_t n_in : {1, 65}) {
    for (const Values kind : {Values::DENORMAL, Values::TINY, Values::ZEROS}) {
      check_shapes(Case(n_in, kind, Values::HUGE_ONES));
      check_shapes(Case(n_in, Values::HUGE_ONES, kind));
    }
  }
}

TEST(rows_can_be_quantized_in_pieces) {
  for (const KernelTable* kernels : simd_tables()) {
    const std::vector<float> x = draw(200, 1);
    const int64_t n_bytes = kernels->q8_row_group_bytes;
    Bytes whole(4 * n_bytes), pieces(4 * n_bytes);
    kernels->quantize_rows(whole.data(), x.data(), 1, 200, 200);
    kernels->quantize_rows(pieces.data(), x.data(), 1, 128, 200);
    kernels->quantize_rows(pieces.data() + 2 * n_bytes, x.data() + 128, 1, 72, 200);
    CHECK(std::memcmp(whole.data(), pieces.data(), 4 * n_bytes) == 0);
  }
}

TEST(layer_norm_q8_is_layer_norm_then_quantize_rows) {
  for (const KernelTable* kernels : simd_tables()) {
    for (const int64_t n_cols : INPUTS) {
      const int64_t n_bytes = 3 * n_groups(n_cols) * kernels->q8_row_group_bytes;
      const std::vector<float> x = draw(3 * n_cols, 1), weight = draw(n_cols, 2), bias = draw(n_cols, 3);
      std::vector<float> normed(3 * n_cols);
      Bytes expected(n_bytes), got(n_bytes);
      kernels->layer_norm(normed.data(), x.data(), weight.data(), bias.data(), 3, n_cols, 1e-5f);
      kernels->quantize_rows(expected.data(), normed.data(), 3, n_cols, n_cols);
      kernels->layer_norm_q8(got.data(), x.data(), weight.data(), bias.data(), 3, n_cols, 1e-5f);
      CHECK(std::memcmp(expected.data(), got.data(), n_bytes) == 0);
    }
  }
}

}  // namespace
