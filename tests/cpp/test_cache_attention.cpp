// Attention over a cache: equal bits on every instruction set, close to "ref"; and what a mask hides is never read.
#include <cmath>
#include <cstring>

#include "kernels/cache_attention.h"
#include "kernels/half.h"
#include "kernels/row_kernels.h"
#include "simd_cases.h"

namespace {

using namespace simd_cases;

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
    const bool is_hidden = kind == 1   ? j % 3 == 1
                           : kind == 2 ? j > n_cells / 2
                           : kind == 5 ? j / 16 % 3 != 1  // whole blocks of a kernel's lanes
                                       : kind == 3;
    mask[static_cast<size_t>(j)] = is_hidden ? 0xFC00 : kind == 4 && j % 5 == 0 ? palo::float_to_half(-1.5f) : 0;
  }
  return mask;
}

TEST(attention_on_every_isa) {
  for (const int64_t head_size : {16, 64, 80, 128, 144}) {
    for (const int64_t n_cells : {1, 2, 15, 16, 17, 33, 300}) {
      Cache cache(n_cells, head_size, 3);
      const std::vector<float> query = draw(head_size, 1);
      for (int kind = -1; kind <= 5; ++kind) {
        const std::vector<uint16_t> mask = mask_of(n_cells, kind);
        const auto* mask_bytes = kind < 0 ? nullptr : reinterpret_cast<const uint8_t*>(mask.data());
        const auto run = [&](const KernelTable& k) {
          std::vector<float> out(head_size, -777.0f), weights(n_cells);
          k.cache_attention->attend(out.data(), weights.data(), query.data(), {cache.keys.data(), cache.stride},
                                    {cache.values.data(), cache.stride}, mask_bytes, n_cells, head_size, 0.11f);
          return out;
        };
        check_on_every_isa(run, 3e-6f);  // observed 6e-7
      }
    }
  }
}

void check_hidden_cells_are_not_read(int mask_kind) {
  constexpr int64_t HEAD_SIZE = 64, N_CELLS = 70;
  Cache cache(N_CELLS, HEAD_SIZE, 3);
  const std::vector<float> query = draw(HEAD_SIZE, 1);
  const std::vector<uint16_t> mask = mask_of(N_CELLS, mask_kind);
  const auto run = [&](const KernelTable& k) {
    std::vector<float> out(HEAD_SIZE), weights(N_CELLS);
    k.cache_attention->attend(out.data(), weights.data(), query.data(), {cache.keys.data(), cache.stride},
                              {cache.values.data(), cache.stride}, reinterpret_cast<const uint8_t*>(mask.data()),
                              N_CELLS, HEAD_SIZE, 0.1f);
    return out;
  };
  std::vector<std::vector<float>> clean;
  for (const KernelTable* kernels : simd_tables()) clean.push_back(run(*kernels));
  for (int64_t j = 0; j < N_CELLS; ++j) {
    if (mask[static_cast<size_t>(j)] == 0) continue;
    std::memset(cache.keys.data() + j * cache.stride, 0x7E, 2 * HEAD_SIZE);  // NaN
    std::memset(cache.values.data() + j * cache.stride, 0x7E, 2 * HEAD_SIZE);
  }
  for (size_t i = 0; i < clean.size(); ++i) CHECK(run(*simd_tables()[i]) == clean[i]);
}

TEST(attention_never_reads_hidden_cells) {
  check_hidden_cells_are_not_read(1);
  check_hidden_cells_are_not_read(5);
}

}  // namespace
