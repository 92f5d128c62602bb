// The int8 path of every instruction set against the plain loop that kernel_table.h describes, bit for bit.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "simd_cases.h"

namespace {

using namespace simd_cases;
using palo::Ahead;
using palo::Q8_GROUP;
using palo::Q8_WIDE_GROUP;
using palo::Q8Kernels;

constexpr int64_t INPUTS[] = {1, 15, 16, 17, 63, 64, 65, 128, 192, 200, 16 * Q8_GROUP + 1, 2100};
constexpr int64_t OUTPUTS[] = {1, 15, 16, 17, 31, 32, 33, 40, 64, 65, 70, 90};
constexpr int64_t MAX_OUTPUTS = 90;
constexpr int64_t MAX_ROWS = 13;
constexpr int64_t GROUPS[] = {Q8_GROUP, Q8_WIDE_GROUP};

struct QuantizedRow {
  std::vector<int8_t> q;
  std::vector<float> scales;
};

QuantizedRow quantize(const float* x, int64_t n, int64_t group) {
  QuantizedRow row;
  for (int64_t begin = 0; begin < n; begin += group) {
    const int64_t end = std::min(n, begin + group);
    float absmax = 0.0f;
    for (int64_t i = begin; i < end; ++i) absmax = std::max(absmax, std::abs(x[i]));
    const bool is_zero = absmax < 0x1p-120f;
    const float inverse = is_zero ? 0.0f : 127.0f / absmax;
    row.scales.push_back(is_zero ? 0.0f : absmax / 127.0f);
    for (int64_t i = begin; i < end; ++i) row.q.push_back(static_cast<int8_t>(std::nearbyint(x[i] * inverse)));
  }
  return row;
}

float dot(const QuantizedRow& x, const QuantizedRow& w, int64_t group) {
  float sum = 0.0f;
  for (size_t g = 0; g < x.scales.size(); ++g) {
    int32_t products = 0;
    const size_t end = std::min(x.q.size(), (g + 1) * group);
    for (size_t i = g * group; i < end; ++i) products += x.q[i] * w.q[i];
    sum = std::fma(static_cast<float>(products), x.scales[g] * w.scales[g], sum);
  }
  return sum;
}

// x [MAX_ROWS, n_in], w [MAX_OUTPUTS, n_in], and their product by plain loops.
struct Case {
  Case(int64_t n, int64_t group, Values of_x, Values of_w)
      : n_in(n), group(group), x(draw(MAX_ROWS * n, 1, of_x)), w(draw(MAX_OUTPUTS * n, 2, of_w)) {
    bias = draw(MAX_OUTPUTS, 3);
    std::vector<QuantizedRow> weights;
    for (int64_t o = 0; o < MAX_OUTPUTS; ++o) weights.push_back(quantize(&w[o * n], n, group));
    for (int64_t r = 0; r < MAX_ROWS; ++r) {
      const QuantizedRow row = quantize(&x[r * n], n, group);
      for (const QuantizedRow& weight : weights) product.push_back(dot(row, weight, group));
    }
  }
  int64_t n_in, group;
  std::vector<float> x, w, bias, product;
};

const Q8Kernels& kernels_of(const KernelTable& table, int64_t group) {
  return group == Q8_GROUP ? table.q8 : table.q8_wide;
}

int64_t n_groups(int64_t n_in, int64_t group) {
  return (n_in + group - 1) / group;
}

// w [n_out, n_in] as panels, from a copy of exactly its size, outputs or inputs side by side.
struct Panels {
  Panels(const Q8Kernels& kernels, const std::vector<float>& weights, int64_t n, int64_t n_in, bool is_transposed)
      : n_out(n), bytes((n + kernels.panel_width - 1) / kernels.panel_width * bytes_of_one(kernels, n_in)) {
    const int64_t width = kernels.panel_width, stride_out = is_transposed ? 1 : n_in;
    std::vector<float> w(weights.begin(), weights.begin() + n_out * n_in);
    for (int64_t i = 0; is_transposed && i < n_out * n_in; ++i) w[i] = weights[i % n_out * n_in + i / n_out];
    for (int64_t o = 0; o < n_out; o += width) {
      kernels.pack_panel(bytes.data() + o / width * bytes_of_one(kernels, n_in), w.data() + o * stride_out,
                         std::min(width, n_out - o), n_in, stride_out, is_transposed ? n_out : 1);
    }
  }
  static int64_t bytes_of_one(const Q8Kernels& kernels, int64_t n_in) {
    return n_groups(n_in, kernels.group) * kernels.panel_group_bytes;
  }
  int64_t n_out;
  Bytes bytes;
};

// n_rows x n_out of the product, and one float more per row that must stay as it is.
void check(const Q8Kernels& kernels, const Case& c, Panels& panels, int64_t n_rows, bool has_bias) {
  const int64_t n_out = panels.n_out, ldo = n_out + 1;
  Bytes rows(n_rows * n_groups(c.n_in, c.group) * kernels.row_group_bytes);
  const std::vector<float> x(c.x.begin(), c.x.begin() + n_rows * c.n_in);
  kernels.quantize_rows(rows.data(), x.data(), n_rows, c.n_in, c.n_in);
  std::vector<float> out(n_rows * ldo, -777.0f);
  kernels.linear(out.data(), rows.data(), panels.bytes.data(), has_bias ? c.bias.data() : nullptr, n_rows, n_out,
                 c.n_in, ldo, Ahead{panels.bytes.data(), n_rows * 100});
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t o = 0; o < n_out; ++o) {
      const float sum = c.product[r * MAX_OUTPUTS + o], expected = has_bias ? sum + c.bias[o] : sum;
      CHECK(are_equal_bits(&out[r * ldo + o], &expected, 1));
    }
    CHECK(out[r * ldo + n_out] == -777.0f);
  }
}

void check_shapes(const Case& c) {
  for (const KernelTable* table : simd_tables()) {
    const Q8Kernels& kernels = kernels_of(*table, c.group);
    Panels panels(kernels, c.w, MAX_OUTPUTS, c.n_in, false);
    for (int64_t n_rows = 1; n_rows <= MAX_ROWS; ++n_rows) check(kernels, c, panels, n_rows, n_rows % 2 == 0);
    for (const int64_t n_out : OUTPUTS) {
      // More outputs than these do the same for long rows, and sanitizers take their time.
      if (c.n_in > 200 && (n_out > 40 || c.group != Q8_GROUP)) continue;
      Panels by_outputs(kernels, c.w, n_out, c.n_in, false), by_inputs(kernels, c.w, n_out, c.n_in, true);
      check(kernels, c, by_outputs, 2, n_out % 2 == 0);
      check(kernels, c, by_inputs, 2, n_out % 2 == 1);
    }
  }
}

TEST(linear_q8_equals_the_plain_loop) {
  for (const int64_t group : GROUPS) {
    for (const int64_t n_in : INPUTS) {
      for (const Values kind : ALL_VALUES) check_shapes(Case(n_in, group, kind, kind));
    }
  }
}

// If both operands are small every product is zero, even if one of them is handled wrongly.
TEST(linear_q8_of_one_small_operand_equals_the_plain_loop) {
  for (const int64_t group : GROUPS) {
    for (const int64_t n_in : {1, 65}) {
      for (const Values kind : {Values::DENORMAL, Values::TINY, Values::ZEROS}) {
        check_shapes(Case(n_in, group, kind, Values::HUGE_ONES));
        check_shapes(Case(n_in, group, Values::HUGE_ONES, kind));
      }
    }
  }
}

TEST(rows_can_be_quantized_in_pieces) {
  for (const KernelTable* table : simd_tables()) {
    for (const int64_t group : GROUPS) {
      const Q8Kernels& kernels = kernels_of(*table, group);
      const std::vector<float> x = draw(200, 1);
      const int64_t n_bytes = n_groups(200, group) * kernels.row_group_bytes;
      Bytes whole(n_bytes), pieces(n_bytes);
      kernels.quantize_rows(whole.data(), x.data(), 1, 200, 200);
      kernels.quantize_rows(pieces.data(), x.data(), 1, 128, 200);
      kernels.quantize_rows(pieces.data() + 128 / group * kernels.row_group_bytes, x.data() + 128, 1, 72, 200);
      CHECK(std::memcmp(whole.data(), pieces.data(), n_bytes) == 0);
    }
  }
}

TEST(layer_norm_q8_is_layer_norm_then_quantize_rows) {
  for (const KernelTable* table : simd_tables()) {
    for (const int64_t group : GROUPS) {
      const Q8Kernels& kernels = kernels_of(*table, group);
      for (const int64_t n_cols : INPUTS) {
        const int64_t n_bytes = 3 * n_groups(n_cols, group) * kernels.row_group_bytes;
        const std::vector<float> x = draw(3 * n_cols, 1), weight = draw(n_cols, 2), bias = draw(n_cols, 3);
        std::vector<float> normed(3 * n_cols);
        Bytes expected(n_bytes), got(n_bytes);
        table->layer_norm(normed.data(), x.data(), weight.data(), bias.data(), 3, n_cols, 1e-5f);
        kernels.quantize_rows(expected.data(), normed.data(), 3, n_cols, n_cols);
        kernels.layer_norm(got.data(), x.data(), weight.data(), bias.data(), 3, n_cols, 1e-5f);
        CHECK(std::memcmp(expected.data(), got.data(), n_bytes) == 0);
      }
    }
  }
}

// The values of quantized rows [n_rows, n_cols]: their product with the identity, whose groups are single ones.
std::vector<float> values_of(const Q8Kernels& kernels, Bytes& rows, int64_t n_rows, int64_t n_cols) {
  std::vector<float> identity(n_cols * n_cols, 0.0f), values(n_rows * n_cols);
  for (int64_t i = 0; i < n_cols; ++i) identity[i * n_cols + i] = 127.0f;
  Panels panels(kernels, identity, n_cols, n_cols, false);
  kernels.linear(values.data(), rows.data(), panels.bytes.data(), nullptr, n_rows, n_cols, n_cols, n_cols, {});
  for (float& value : values) value /= 127.0f;
  return values;
}

// The softmax of one row, in double.
std::vector<double> softmax_of(const float* x, int64_t n, double scale) {
  const double largest = *std::max_element(x, x + n);
  std::vector<double> result;
  for (int64_t c = 0; c < n; ++c) result.push_back(std::exp(scale * (x[c] - largest)));
  const double sum = std::reduce(result.begin(), result.end());
  for (double& value : result) value /= sum;
  return result;
}

// The columns of a row by groups: within half a step of the group's largest.
void check_softmax(const std::vector<float>& got, int64_t r, const std::vector<double>& expected, int64_t group) {
  const auto n = static_cast<int64_t>(expected.size());
  for (int64_t begin = 0; begin < n; begin += group) {
    const int64_t end = std::min(n, begin + group);
    const double largest = *std::max_element(expected.begin() + begin, expected.begin() + end);
    for (int64_t c = begin; c < end; ++c) {
      CHECK(std::abs(got[r * n + c] - expected[c]) <= largest * (0.5 / 127 + 2e-5));
    }
  }
}

constexpr int64_t N_QUERIES = 13;  // two tiles of rows and a part of one
constexpr float SCALE = 0.3f;

// Weights of the queries x over the keys w as floats, checked against the softmax of the product that `linear` has.
std::vector<float> checked_weights(const Q8Kernels& kernels, const std::vector<float>& x, const std::vector<float>& w,
                                   int64_t n_keys, int64_t n_in) {
  Bytes queries(N_QUERIES * n_groups(n_in, kernels.group) * kernels.row_group_bytes);
  kernels.quantize_rows(queries.data(), x.data(), N_QUERIES, n_in, n_in);
  Panels keys(kernels, w, n_keys, n_in, false);
  std::vector<float> scores(N_QUERIES * n_keys), scratch(N_QUERIES * (n_keys + 32));
  kernels.linear(scores.data(), queries.data(), keys.bytes.data(), nullptr, N_QUERIES, n_keys, n_in, n_keys, {});
  Bytes weights(N_QUERIES * n_groups(n_keys, kernels.group) * kernels.row_group_bytes);
  kernels.attention_weights(weights.data(), queries.data(), keys.bytes.data(), scratch.data(), N_QUERIES, n_keys, n_in,
                            SCALE);
  const std::vector<float> got = values_of(kernels, weights, N_QUERIES, n_keys);
  for (int64_t r = 0; r < N_QUERIES; ++r) {
    check_softmax(got, r, softmax_of(&scores[r * n_keys], n_keys, SCALE), kernels.group);
  }
  return got;
}

TEST(attention_weights_are_a_softmax_within_half_a_step_and_equal_on_every_isa) {
  for (const int64_t group : GROUPS) {
    for (const int64_t n_keys : {1, 15, 17, 63, 64, 65, 129, 200, 577, 1100}) {
      const int64_t n_in = n_keys % 2 == 0 ? 80 : 64;
      const std::vector<float> w = draw(n_keys * n_in, 2);
      std::vector<float> x = draw(N_QUERIES * n_in, 1), of_first;
      std::for_each_n(x.begin(), n_in, [](float& value) { value *= 1e4f; });  // one score above all others
      std::fill_n(x.begin() + n_in, n_in, 0.0f);                              // all scores equal
      for (const KernelTable* table : simd_tables()) {
        const std::vector<float> got = checked_weights(kernels_of(*table, group), x, w, n_keys, n_in);
        if (of_first.empty()) of_first = got;
        CHECK(are_equal_bits(got.data(), of_first.data(), N_QUERIES * n_keys));
      }
      checked_weights(kernels_of(palo::ref::kernel_table(), group), x, w, n_keys, n_in);
    }
  }
}

}  // namespace
