// The float kernels of every instruction set: equal bits among all that come from the SIMD source, and close to "ref",
// which sums in double. Buffers have exactly the promised sizes, for the sanitizers.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "simd_cases.h"

namespace {

using namespace simd_cases;

constexpr int64_t SIZES[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130, 577};
constexpr float NAN_VALUE = std::numeric_limits<float>::quiet_NaN();

using Kernel = std::function<std::vector<float>(const KernelTable&)>;

// Largest |a - b| / (1 + |b|); NaN equals NaN.
float largest_error(const std::vector<float>& a, const std::vector<float>& b) {
  float largest = 0.0f;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    const float error = std::abs(a[i] - b[i]) / (1.0f + std::abs(b[i]));
    largest = error <= largest ? largest : error;  // a lone NaN is the largest
  }
  return largest;
}

// Runs a kernel on every table: equal bits, within `tolerance` of ref.
void check(const Kernel& run, float tolerance) {
  const std::vector<float> expected = run(palo::ref::kernel_table());
  const std::vector<float> first = run(*simd_tables().front());
  CHECK(expected.size() == first.size());
  CHECK(largest_error(first, expected) <= tolerance);
  for (const KernelTable* kernels : simd_tables()) {
    const std::vector<float> got = run(*kernels);
    CHECK(got.size() == first.size() && are_equal_bits(got.data(), first.data(), first.size()));
  }
}

std::vector<float> run_linear(const KernelTable& k, const std::vector<float>& w, const std::vector<float>& x,
                              const float* bias, int64_t n_rows, int64_t n_out, int64_t n_in, bool is_transposed) {
  const int64_t n_panels = (n_out + k.panel_width - 1) / k.panel_width;
  std::vector<float> panels(n_panels * k.panel_width * n_in), out(n_rows * (n_out + 1), -777.0f);
  for (int64_t o = 0; o < n_out; o += k.panel_width) {
    k.pack_panel(panels.data() + o * n_in, w.data() + o * (is_transposed ? 1 : n_in),
                 std::min(k.panel_width, n_out - o), n_in, is_transposed ? 1 : n_in, is_transposed ? n_out : 1);
  }
  k.linear(out.data(), x.data(), panels.data(), bias, n_rows, n_out, n_in, n_out + 1, n_in);
  return out;
}

TEST(linear_on_every_isa) {
  for (int64_t n_rows = 1; n_rows <= 13; ++n_rows) {
    for (const int64_t n_out : {1, 15, 16, 17, 31, 32, 33, 70}) {
      for (const int64_t n_in : {1, 15, 64, 256, 257, 577}) {
        const std::vector<float> w = draw(n_out * n_in, 1), x = draw(n_rows * n_in, 2), bias = draw(n_out, 3);
        const bool has_bias = n_rows % 3 != 0, is_transposed = n_rows % 2 == 0;
        const auto run = [&](const KernelTable& k) {
          return run_linear(k, w, x, has_bias ? bias.data() : nullptr, n_rows, n_out, n_in, is_transposed);
        };
        check(run, 1e-5f);  // observed 6.4e-6, of sums up to 60
      }
    }
  }
}

TEST(linear_of_more_rows_than_a_block) {
  const std::vector<float> w = draw(40 * 300, 1), x = draw(101 * 300, 2);
  check([&](const KernelTable& k) { return run_linear(k, w, x, nullptr, 101, 40, 300, false); }, 1e-5f);
}

TEST(layer_norm_on_every_isa) {
  for (const int64_t n : SIZES) {
    for (const float mean : {0.0f, 100.0f, 1e6f}) {
      for (const Values kind : {Values::NORMAL, Values::OUTLIER, Values::ZEROS}) {
        std::vector<float> x = draw(3 * n, 1, kind);
        for (float& value : x) value += mean;
        const std::vector<float> weight = draw(n, 2), bias = draw(n, 3);
        const auto run = [&](const KernelTable& k) {
          std::vector<float> out(3 * n);
          k.layer_norm(out.data(), x.data(), weight.data(), bias.data(), 3, n, 1e-5f);
          return out;
        };
        check(run, 5e-7f);  // observed 2.4e-7
      }
    }
  }
}

TEST(softmax_on_every_isa) {
  for (const int64_t n : SIZES) {
    for (const float factor : {1.0f, 50.0f, 1e30f}) {
      const std::vector<float> x = draw(3 * (n + 1), 1);
      const auto run = [&](const KernelTable& k) {
        std::vector<float> out = x;
        for (float& value : out) value *= factor;
        k.softmax(out.data(), 3, n, n + 1, 0.125f);
        for (int64_t r = 0; r < 3; ++r) CHECK(out[r * (n + 1) + n] == x[r * (n + 1) + n] * factor);
        return out;
      };
      check(run, 5e-7f);  // observed 1.2e-7
    }
  }
}

TEST(elementwise_on_every_isa) {
  constexpr void (*KernelTable::* KERNELS[])(float*, int64_t) = {&KernelTable::gelu_quick, &KernelTable::gelu_erf,
                                                                 &KernelTable::relu, &KernelTable::hardswish,
                                                                 &KernelTable::hardsigmoid};
  for (const auto kernel : KERNELS) {
    for (const int64_t n : SIZES) {
      std::vector<float> x = draw(n, 1);
      for (float& value : x) value *= 5.0f;
      for (const float edge : {0.0f, -0.0f, 3.0f, -3.0f, 12.5f, -12.5f, 90.0f, -90.0f, 1e30f, -1e30f, 1e-40f}) {
        x.push_back(edge);
      }
      const auto run = [&](const KernelTable& k) {
        std::vector<float> out = x;
        (k.*kernel)(out.data(), static_cast<int64_t>(out.size()));
        return out;
      };
      check(run, 2e-7f);  // observed 9.5e-8
    }
    for (const KernelTable* kernels : simd_tables()) {
      std::vector<float> x(19, 1.0f);
      x[3] = x[18] = NAN_VALUE;
      (kernels->*kernel)(x.data(), 19);
      for (int64_t i = 0; i < 19; ++i) CHECK(std::isnan(x[i]) == (i == 3 || i == 18));
    }
  }
}

// Every float from -15 to 15 in steps of 1e-4: between the few points of a random draw a polynomial could be wrong.
TEST(gelu_over_its_whole_range) {
  std::vector<float> x;
  for (int i = -150'000; i <= 150'000; ++i) x.push_back(1e-4f * static_cast<float>(i));
  for (const auto kernel : {&KernelTable::gelu_quick, &KernelTable::gelu_erf}) {
    std::vector<float> got = x;
    (palo::kernels().*kernel)(got.data(), static_cast<int64_t>(got.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      const double v = x[i];
      const double expected = kernel == &KernelTable::gelu_erf ? v * 0.5 * std::erfc(-v / std::sqrt(2.0))
                                                               : v / (1.0 + std::exp(-1.702 * v));
      CHECK(std::abs(got[i] - expected) <= 1.5e-7 * (1.0 + std::abs(v)));  // observed 1.1e-7
    }
  }
}

TEST(sums_of_rows_and_columns_on_every_isa) {
  for (const int64_t n : SIZES) {
    const std::vector<float> a = draw(7 * n, 1), b = draw(7 * n, 2), scale = draw(n, 3), tall = draw(577 * n, 4);
    const auto add = [&](const KernelTable& k) {
      std::vector<float> out(n);
      k.add(out.data(), a.data(), b.data(), n);
      return out;
    };
    const auto scale_columns = [&](const KernelTable& k) {
      std::vector<float> out = a;
      k.scale_columns(out.data(), scale.data(), 7, n);
      return out;
    };
    const auto column_means = [&](const KernelTable& k) {
      std::vector<float> out(n, -777.0f);
      k.column_means(out.data(), tall.data(), n / 3, n - n / 4, 577, n);
      for (int64_t c = 0; c < n; ++c) CHECK((out[c] == -777.0f) == (c < n / 3 || c >= n - n / 4));
      return out;
    };
    check(add, 0.0f);
    check(scale_columns, 0.0f);
    check(column_means, 2e-8f);  // observed 7.0e-9
  }
}

TEST(image_grids_on_every_isa) {
  for (const auto& [height, width] : {std::pair{1, 1}, {2, 2}, {1, 9}, {5, 5}, {4, 7}, {9, 9}, {3, 24}}) {
    for (const int64_t n_channels : {1, 15, 16, 17, 33}) {
      const std::vector<float> x = draw(height * width * n_channels, 1), weight = draw(9 * n_channels, 2);
      const std::vector<float> bias = draw(n_channels, 3);
      for (const int64_t stride : {1, 2}) {
        const int64_t out_height = (height + stride - 1) / stride, out_width = (width + stride - 1) / stride;
        for (const float* b : {static_cast<const float*>(nullptr), bias.data()}) {
          const auto run = [&](const KernelTable& k) {
            std::vector<float> out(out_height * out_width * n_channels);
            k.depthwise_conv3x3(out.data(), x.data(), weight.data(), b, 0, out_height, height, width, n_channels,
                                stride);
            return out;
          };
          check(run, 2e-6f);  // observed 7.4e-7
        }
      }
      const auto pool = [&](const KernelTable& k) {
        std::vector<float> out((height / 2) * (width / 2) * n_channels);
        k.average_pool2x2(out.data(), x.data(), 0, height / 2, width, n_channels);
        return out;
      };
      check(pool, 0.0f);
    }
  }
  for (const int64_t patch_size : {1, 4, 14, 16, 17, 32}) {
    const std::vector<float> pixels = draw(3 * 9 * patch_size * patch_size, 1);
    const auto run = [&](const KernelTable& k) {
      std::vector<float> out(3 * 3 * patch_size * patch_size);
      k.patch_row(out.data(), pixels.data(), 2, 3, patch_size);
      return out;
    };
    check(run, 0.0f);
  }
}

}  // namespace
