// Resampling of 8-bit pixels: every instruction set gives what "ref" gives, from and into buffers of exactly the
// promised sizes.
#include <random>

#include "kernels/pixel_kernels.h"
#include "simd_cases.h"

namespace {

using namespace simd_cases;
using palo::PIXEL_BYTES;
using palo::Resampling;
using palo::RESAMPLING_BITS;

constexpr int32_t ONE = 1 << RESAMPLING_BITS;

std::vector<uint8_t> draw_pixels(int64_t n_pixels) {
  std::mt19937 random(static_cast<unsigned>(n_pixels));
  std::vector<uint8_t> pixels(n_pixels * PIXEL_BYTES);
  for (uint8_t& value : pixels) value = static_cast<uint8_t>(random());
  return pixels;
}

// Random windows and weights; the first and the last window touch both ends. Results go beyond 0..255 on both sides.
struct Case {
  Case(int64_t n_in, int64_t n_out, int64_t n_taps)
      : starts(n_out), coefficients(n_out * n_taps), base(n_out * PIXEL_BYTES), n_taps(n_taps) {
    std::mt19937 random(static_cast<unsigned>(n_in * 1000 + n_taps));
    const auto within = [&](int64_t low, int64_t high) {
      return static_cast<int32_t>(std::uniform_int_distribution<int64_t>(low, high)(random));
    };
    for (int64_t o = 0; o < n_out; ++o) starts[o] = within(0, n_in - n_taps);
    starts.front() = static_cast<int32_t>(n_in - n_taps);
    starts.back() = 0;
    for (int32_t& weight : coefficients) weight = within(-ONE / n_taps, 3 * ONE / 2 / n_taps);
    for (int32_t& sum : base) sum = within(-20 * ONE, 20 * ONE);
  }

  Resampling resampling() const {
    return {starts.data(), coefficients.data(), base.data(), static_cast<int64_t>(starts.size()), n_taps};
  }

  std::vector<int32_t> starts, coefficients, base;
  int64_t n_taps;
};

template <typename Run>
void check_equal_to_ref(const Run& run) {
  const std::vector<uint8_t> expected = run(palo::ref::kernel_table());
  for (const KernelTable* kernels : simd_tables()) CHECK(run(*kernels) == expected);
}

constexpr std::pair<int64_t, int64_t> WINDOWS[] = {{1, 1}, {2, 2},  {3, 1},  {3, 3},  {4, 4},    {5, 4},
                                                   {9, 5}, {17, 6}, {40, 7}, {40, 8}, {300, 50}, {300, 300}};

TEST(resample_along_on_every_isa) {
  for (const auto& [n_in, n_taps] : WINDOWS) {
    for (const int64_t n_rows : {1, 2, 3, 4, 5, 8, 11}) {
      for (const int64_t n_out : {1, 3, 16, 37}) {
        const std::vector<uint8_t> in = draw_pixels(n_rows * n_in);
        const Case each(n_in, n_out, n_taps);
        check_equal_to_ref([&](const KernelTable& k) {
          std::vector<uint8_t> out(n_rows * n_out * PIXEL_BYTES, 77);
          k.pixels->resample_along(out.data(), in.data(), each.resampling(), n_rows, n_in);
          return out;
        });
      }
    }
  }
}

TEST(resample_across_on_every_isa) {
  for (const auto& [n_in, n_taps] : WINDOWS) {
    for (const int64_t n_columns : {1, 2, 3, 4, 5, 15, 16, 17, 31, 36, 53}) {
      for (const int64_t n_out : {1, 7}) {
        const std::vector<uint8_t> in = draw_pixels(n_in * n_columns);
        const Case each(n_in, n_out, n_taps);
        check_equal_to_ref([&](const KernelTable& k) {
          std::vector<uint8_t> out(n_out * n_columns * PIXEL_BYTES, 77);
          k.pixels->resample_across(out.data(), in.data(), each.resampling(), n_columns);
          return out;
        });
      }
    }
  }
}

// 100 and 201 by weights of 3/2, 1/2 and -1: half a step rounds up, and what is beyond 0..255 stays at the end.
TEST(resampled_pixels_are_rounded_and_clamped) {
  const std::vector<uint8_t> in = {100, 100, 201, 0, 201, 100, 100, 0};
  const std::vector<int32_t> starts = {0, 0, 0};
  const std::vector<int32_t> coefficients = {3 * ONE / 2, ONE / 2, ONE, -ONE, ONE / 2, ONE / 2};
  const std::vector<int32_t> base(3 * PIXEL_BYTES, ONE / 2);
  const std::vector<uint8_t> expected = {251, 200, 255, 0, 0, 0, 101, 0, 151, 100, 151, 0};
  const Resampling resampling{starts.data(), coefficients.data(), base.data(), 3, 2};
  std::vector<uint8_t> out(expected.size());
  const auto check = [&](const KernelTable& k) {
    k.pixels->resample_along(out.data(), in.data(), resampling, 1, 2);
    CHECK(out == expected);
    k.pixels->resample_across(out.data(), in.data(), resampling, 1);
    CHECK(out == expected);
  };
  check(palo::ref::kernel_table());
  for (const KernelTable* kernels : simd_tables()) check(*kernels);
}

}  // namespace
