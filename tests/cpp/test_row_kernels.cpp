// The kernels over one row: equal bits on every instruction set, close to "ref".
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/half.h"
#include "kernels/row_kernels.h"
#include "simd_cases.h"

namespace {

using namespace simd_cases;
using palo::CacheRows;
using palo::RowKernels;

constexpr int64_t SIZES[] = {1, 15, 16, 17, 63, 64, 65, 130, 2048};

// Runs on every table: equal bits, within tolerance * (1 + |expected|) of ref.
template <typename Run>
void check(const Run& run, float tolerance) {
  const std::vector<float> expected = run(*palo::ref::kernel_table().rows);
  const std::vector<float> first = run(*simd_tables().front()->rows);
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(std::abs(first[i] - expected[i]) <= tolerance * (1.0f + std::abs(expected[i])));
  }
  for (const KernelTable* kernels : simd_tables()) {
    const std::vector<float> got = run(*kernels->rows);
    CHECK(got.size() == first.size() && are_equal_bits(got.data(), first.data(), first.size()));
  }
}

TEST(rms_norm_on_every_isa) {
  for (const int64_t n : SIZES) {
    for (const Values kind : {Values::NORMAL, Values::OUTLIER, Values::ZEROS}) {
      const std::vector<float> x = draw(n, 1, kind), weight = draw(n, 2);
      for (const float* w : {weight.data(), static_cast<const float*>(nullptr)}) {
        const auto run = [&](const RowKernels& k) {
          std::vector<float> out(n);
          k.rms_norm(out.data(), x.data(), w, n, 1e-5f);
          return out;
        };
        check(run, 2e-6f);  // observed 7e-7
      }
    }
  }
}

TEST(products_and_swiglu_on_every_isa) {
  for (const int64_t n : SIZES) {
    for (const Values kind : {Values::NORMAL, Values::OUTLIER, Values::HUGE_ONES}) {
      const std::vector<float> a = draw(n, 1, kind), b = draw(n, 2);
      check(
          [&](const RowKernels& k) {
            std::vector<float> out = a;
            k.multiply(out.data(), out.data(), b.data(), n);
            return out;
          },
          0.0f);
      check(
          [&](const RowKernels& k) {
            std::vector<float> out = b;
            k.swiglu(out.data(), a.data(), out.data(), n);
            return out;
          },
          1e-6f);  // observed 2e-7
    }
  }
}

TEST(rotate_pairs_on_every_isa) {
  for (const int64_t n_pairs : {1, 7, 8, 16, 33, 64}) {
    const std::vector<float> x = draw(2 * n_pairs, 1), cosines = draw(n_pairs, 2), sines = draw(n_pairs, 3);
    const auto run = [&](const RowKernels& k) {
      std::vector<float> out = x;
      k.rotate_pairs(out.data(), out.data(), cosines.data(), sines.data(), n_pairs);
      return out;
    };
    check(run, 1e-6f);  // the reference may be compiled with fma
  }
}

// As floats, so that the comparison can be of bits: x [n] -> its halves.
std::vector<float> halves_of(const RowKernels& k, const std::vector<float>& x) {
  std::vector<uint16_t> halves(x.size());
  k.to_halves(reinterpret_cast<uint8_t*>(halves.data()), x.data(), static_cast<int64_t>(x.size()));
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
  check([&](const RowKernels& k) { return halves_of(k, x); }, 0.0f);
}

TEST(every_half_is_the_half_of_its_float) {
  for (uint32_t half = 0; half <= 0xFFFF; ++half) {
    const auto h = static_cast<uint16_t>(half);
    const float value = palo::half_to_float(h);
    CHECK(std::isnan(value) || palo::float_to_half(value) == h);
  }
}

// Keys and values of a cache with other heads beside; exactly as many bytes as the last cell needs.
struct Cache {
  int64_t stride;
  Bytes keys, values;

  Cache(int64_t n_cells, int64_t head_size, unsigned seed)
      : stride(6 * head_size),
        keys((n_cells - 1) * stride + 2 * head_size),
        values((n_cells - 1) * stride + 2 * head_size) {
    for (Bytes* bytes : {&keys, &values}) {
      const std::vector<float> x = draw(n_cells * head_size, seed++);
      for (int64_t j = 0; j < n_cells; ++j) {
        palo::ref::kernel_table().rows->to_halves(bytes->data() + j * stride, x.data() + j * head_size, head_size);
      }
    }
  }
};

std::vector<uint16_t> mask_of(int64_t n_cells, int kind) {
  std::vector<uint16_t> mask(static_cast<size_t>(n_cells), 0);
  for (int64_t j = 0; j < n_cells; ++j) {
    const bool is_hidden = kind == 1 ? j % 3 == 1 : kind == 2 ? j > n_cells / 2 : kind == 3;
    mask[static_cast<size_t>(j)] = is_hidden ? 0xFC00 : kind == 4 && j % 5 == 0 ? palo::float_to_half(-1.5f) : 0;
  }
  return mask;
}

TEST(attention_on_every_isa) {
  for (const int64_t head_size : {16, 64, 80, 128, 144}) {
    for (const int64_t n_cells : {1, 2, 15, 16, 17, 33, 300}) {
      Cache cache(n_cells, head_size, 3);
      const std::vector<float> query = draw(head_size, 1);
      for (int kind = -1; kind <= 4; ++kind) {
        const std::vector<uint16_t> mask = mask_of(n_cells, kind);
        const auto* mask_bytes = kind < 0 ? nullptr : reinterpret_cast<const uint8_t*>(mask.data());
        const auto run = [&](const RowKernels& k) {
          std::vector<float> out(head_size, -777.0f), weights(n_cells);
          k.attend(out.data(), weights.data(), query.data(), {cache.keys.data(), cache.stride},
                   {cache.values.data(), cache.stride}, mask_bytes, n_cells, head_size, 0.11f);
          return out;
        };
        check(run, 3e-6f);  // observed 6e-7
      }
    }
  }
}

TEST(attention_never_reads_hidden_cells) {
  constexpr int64_t HEAD_SIZE = 64, N_CELLS = 40;
  Cache cache(N_CELLS, HEAD_SIZE, 3);
  const std::vector<float> query = draw(HEAD_SIZE, 1);
  const std::vector<uint16_t> mask = mask_of(N_CELLS, 1);
  const auto run = [&](const RowKernels& k) {
    std::vector<float> out(HEAD_SIZE), weights(N_CELLS);
    k.attend(out.data(), weights.data(), query.data(), {cache.keys.data(), cache.stride},
             {cache.values.data(), cache.stride}, reinterpret_cast<const uint8_t*>(mask.data()), N_CELLS, HEAD_SIZE,
             0.1f);
    return out;
  };
  std::vector<std::vector<float>> clean;
  for (const KernelTable* kernels : simd_tables()) clean.push_back(run(*kernels->rows));
  for (int64_t j = 1; j < N_CELLS; j += 3) {
    std::memset(cache.keys.data() + j * cache.stride, 0x7E, 2 * HEAD_SIZE);  // NaN
    std::memset(cache.values.data() + j * cache.stride, 0x7E, 2 * HEAD_SIZE);
  }
  for (size_t i = 0; i < clean.size(); ++i) CHECK(run(*simd_tables()[i]->rows) == clean[i]);
}

}  // namespace
