// Attention over a cache: equal bits on every instruction set, close to "ref"; and what a mask hides is never read.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cache_attention.h"
#include "kernels/half.h"
#include "kernels/row_kernels.h"
#include "simd_cases.h"

namespace {

using namespace simd_cases;

constexpr float SCALE = 0.11f;

// Keys and values of a cache with something else beside; exactly as many bytes as the last cell needs.
struct Cache {
  int64_t n_cells, n_heads, head_size, stride;
  Bytes keys, values;

  Cache(int64_t cells, int64_t heads, int64_t size, unsigned seed)
      : n_cells(cells),
        n_heads(heads),
        head_size(size),
        stride(2 * heads * size + 4 * size),
        keys((cells - 1) * stride + 2 * heads * size),
        values((cells - 1) * stride + 2 * heads * size) {
    for (Bytes* bytes : {&keys, &values}) {
      const std::vector<float> x = draw(n_cells * n_heads * head_size, seed++);
      for (int64_t j = 0; j < n_cells; ++j) {
        palo::ref::kernel_table().rows->to_halves(bytes->data() + j * stride, x.data() + j * n_heads * head_size,
                                                  n_heads * head_size);
      }
    }
  }

  palo::CacheRows rows(Bytes& cells, int64_t head) {
    return {cells.data() + 2 * head * head_size, stride, 2 * head_size};
  }

  // [n_query_heads, head_size] of heads [head, head + n_query_heads / n_sharing), of queries that lie apart.
  std::vector<float> attend(const KernelTable& k, const std::vector<float>& query, const std::vector<uint16_t>* mask,
                            int64_t head, int64_t n_query_heads, int64_t n_sharing) {
    const int64_t query_stride = static_cast<int64_t>(query.size()) / (n_heads * n_sharing);
    std::vector<float> out(n_query_heads * head_size, -777.0f),
        weights(n_query_heads * palo::attention_weights_stride(n_cells));
    k.cache_attention->attend(out.data(), weights.data(), query.data() + head * n_sharing * query_stride,
                              rows(keys, head), rows(values, head),
                              mask == nullptr ? nullptr : reinterpret_cast<const uint8_t*>(mask->data()), n_cells,
                              {n_query_heads, n_sharing, head_size, query_stride}, SCALE);
    return out;
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
      Cache cache(n_cells, 1, head_size, 3);
      const std::vector<float> query = draw(head_size, 1);
      for (int kind = -1; kind <= 5; ++kind) {
        const std::vector<uint16_t> mask = mask_of(n_cells, kind);
        const auto run = [&](const KernelTable& k) {
          return cache.attend(k, query, kind < 0 ? nullptr : &mask, 0, 1, 1);
        };
        check_on_every_isa(run, 3e-6f);  // observed 6e-7
      }
    }
  }
}

// More runs of seen cells than a kernel keeps apart.
TEST(attention_with_many_gaps) {
  constexpr int64_t N_CELLS = 5000, HEAD_SIZE = 32;
  Cache cache(N_CELLS, 1, HEAD_SIZE, 3);
  const std::vector<float> query = draw(HEAD_SIZE, 1);
  const std::vector<uint16_t> mask = mask_of(N_CELLS, 5);
  check_on_every_isa([&](const KernelTable& k) { return cache.attend(k, query, &mask, 0, 1, 1); }, 3e-6f);
}

TEST(attention_of_several_heads_has_the_bits_of_each) {
  constexpr int64_t N_HEADS_KV = 6, N_CELLS = 45;
  for (const int64_t head_size : {64, 80}) {
    for (const int64_t n_sharing : {1, 3}) {
      Cache cache(N_CELLS, N_HEADS_KV, head_size, 3);
      const std::vector<float> query = draw(N_HEADS_KV * n_sharing * (head_size + 5), 1);
      for (int kind = -1; kind <= 5; ++kind) {
        const std::vector<uint16_t> mask = mask_of(N_CELLS, kind);
        const auto* seen = kind < 0 ? nullptr : &mask;
        const auto run = [&](const KernelTable& k) {
          return cache.attend(k, query, seen, 0, N_HEADS_KV * n_sharing, n_sharing);
        };
        check_on_every_isa(run, 3e-6f);
        for (const KernelTable* kernels : simd_tables()) {
          const std::vector<float> together = run(*kernels);
          for (int64_t head = 0; head < N_HEADS_KV; head += 2) {
            const std::vector<float> two = cache.attend(*kernels, query, seen, head, 2 * n_sharing, n_sharing);
            CHECK(std::equal(two.begin(), two.end(), together.begin() + head * n_sharing * head_size));
          }
        }
      }
    }
  }
}

void check_hidden_cells_are_not_read(int mask_kind) {
  constexpr int64_t HEAD_SIZE = 64, N_CELLS = 70, N_HEADS = 2;
  Cache cache(N_CELLS, N_HEADS, HEAD_SIZE, 3);
  const std::vector<float> query = draw(N_HEADS * HEAD_SIZE, 1);
  const std::vector<uint16_t> mask = mask_of(N_CELLS, mask_kind);
  const auto run = [&](const KernelTable& k) { return cache.attend(k, query, &mask, 0, N_HEADS, 1); };
  std::vector<std::vector<float>> clean;
  for (const KernelTable* kernels : simd_tables()) clean.push_back(run(*kernels));
  for (int64_t j = 0; j < N_CELLS; ++j) {
    if (mask[static_cast<size_t>(j)] == 0) continue;
    std::memset(cache.keys.data() + j * cache.stride, 0x7E, 2 * N_HEADS * HEAD_SIZE);  // NaN
    std::memset(cache.values.data() + j * cache.stride, 0x7E, 2 * N_HEADS * HEAD_SIZE);
  }
  for (size_t i = 0; i < clean.size(); ++i) CHECK(run(*simd_tables()[i]) == clean[i]);
}

TEST(attention_never_reads_hidden_cells) {
  check_hidden_cells_are_not_read(1);
  check_hidden_cells_are_not_read(5);
}

}  // namespace
