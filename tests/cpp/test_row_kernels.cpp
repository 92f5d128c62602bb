// The kernels over one row: equal bits on every instruction set, close to "ref".
#include <cmath>
#include <limits>

#include "kernels/half.h"
#include "kernels/row_kernels.h"
#include "simd_cases.h"

namespace {

using namespace simd_cases;

constexpr int64_t SIZES[] = {1, 15, 16, 17, 63, 64, 65, 130, 2048};

TEST(rms_norm_on_every_isa) {
  for (const int64_t n : SIZES) {
    for (const Values kind : {Values::NORMAL, Values::OUTLIER, Values::ZEROS}) {
      const std::vector<float> x = draw(n, 1, kind), weight = draw(n, 2);
      for (const float* w : {weight.data(), static_cast<const float*>(nullptr)}) {
        const auto run = [&](const KernelTable& k) {
          std::vector<float> out(n);
          k.rows->rms_norm(out.data(), x.data(), w, n, 1e-5f);
          return out;
        };
        check_on_every_isa(run, 2e-6f);  // observed 7e-7
      }
    }
  }
}

TEST(products_and_swiglu_on_every_isa) {
  for (const int64_t n : SIZES) {
    for (const Values kind : {Values::NORMAL, Values::OUTLIER, Values::HUGE_ONES}) {
      const std::vector<float> a = draw(n, 1, kind), b = draw(n, 2);
      check_on_every_isa(
          [&](const KernelTable& k) {
            std::vector<float> out = a;
            k.rows->multiply(out.data(), out.data(), b.data(), n);
            return out;
          },
          0.0f);
      check_on_every_isa(
          [&](const KernelTable& k) {
            std::vector<float> out = b;
            k.rows->swiglu(out.data(), a.data(), out.data(), n);
            return out;
          },
          1e-6f);  // observed 2e-7
    }
  }
}

TEST(rotate_pairs_on_every_isa) {
  for (const int64_t n_pairs : {1, 7, 8, 16, 33, 64}) {
    const std::vector<float> x = draw(2 * n_pairs, 1), cosines = draw(n_pairs, 2), sines = draw(n_pairs, 3);
    const auto run = [&](const KernelTable& k) {
      std::vector<float> out = x;
      k.rows->rotate_pairs(out.data(), out.data(), cosines.data(), sines.data(), n_pairs);
      return out;
    };
    check_on_every_isa(run, 1e-6f);  // the reference may be compiled with fma
  }
}

// As floats, so that the comparison can be of bits: x [n] -> its halves.
std::vector<float> halves_of(const KernelTable& k, const std::vector<float>& x) {
  std::vector<uint16_t> halves(x.size());
  k.rows->to_halves(reinterpret_cast<uint8_t*>(halves.data()), x.data(), static_cast<int64_t>(x.size()));
  std::vector<float> out;
  for (const uint16_t half : halves) out.push_back(static_cast<float>(half));
  return out;
}

TEST(halves_on_every_isa) {
  std::vector<float> x = draw(1000, 1), tiny = draw(1000, 2, Values::TINY);
  for (const float value : tiny) x.push_back(value * 1e30f);
  constexpr float INFINITY_VALUE = std::numeric_limits<float>::infinity();
  for (const float value : {0.0f, 65504.0f, 65519.9f, 65520.0f, 1e9f, 0x1p-14f, 0x1p-24f, 0x1p-25f, 0x1.8p-25f,
                            0x1p-26f, 1.0f + 0x1p-11f, 1.0f + 0x3p-11f, 0x1.ffcp-15f, 0x1.fffp-15f, INFINITY_VALUE}) {
    x.push_back(value);
    x.push_back(-value);
  }
  check_on_every_isa([&](const KernelTable& k) { return halves_of(k, x); }, 0.0f);
}

TEST(floats_of_halves_on_every_isa) {
  for (const int64_t n : SIZES) {
    const std::vector<uint8_t> halves = [&] {
      std::vector<uint8_t> bytes(2 * n);
      palo::ref::kernel_table().rows->to_halves(bytes.data(), draw(n, 1, Values::OUTLIER).data(), n);
      return bytes;
    }();
    const auto run = [&](const KernelTable& k) {
      std::vector<float> out(n);
      k.rows->from_halves(out.data(), halves.data(), n);
      return out;
    };
    check_on_every_isa(run, 0.0f);
  }
}

TEST(every_half_is_the_half_of_its_float) {
  for (uint32_t half = 0; half <= 0xFFFF; ++half) {
    const auto h = static_cast<uint16_t>(half);
    const float value = palo::half_to_float(h);
    CHECK(std::isnan(value) || palo::float_to_half(value) == h);
  }
}

}  // namespace
