// Kernels over one row (row_kernels.h).
#pragma once

#include "kernels/row_kernels.h"
#include "kernels/simd/elementwise.h"

namespace palo::PALO_SIMD_ISA {
namespace {

// out[i] = function(a[i], b[i]): whole vectors, then the rest.
template <typename Function>
PALO_INLINE void for_each_pair(float* out, const float* a, const float* b, int64_t n, Function function) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(out + i, function(load(a + i), load(b + i)));
  if (i < n) store_first(out + i, function(load_first(a + i, n - i), load_first(b + i, n - i)), n - i);
}

PALO_INLINE float mean_of_squares(const float* x, int64_t n) {
  constexpr int64_t CHAINS = 4;
  Floats sums[CHAINS];
  for (int64_t v = 0; v < CHAINS; ++v) sums[v] = set(0.0f);
  int64_t i = 0;
  for (; i + CHAINS * LANES <= n; i += CHAINS * LANES) {
    for (int64_t v = 0; v < CHAINS; ++v) {
      const Floats value = load(x + i + v * LANES);
      sums[v] = fma(value, value, sums[v]);
    }
  }
  for (; i < n; i += LANES) {
    const Floats value = n - i >= LANES ? load(x + i) : load_first(x + i, n - i);
    sums[0] = fma(value, value, sums[0]);
  }
  return sum_of_lanes((sums[0] + sums[1]) + (sums[2] + sums[3])) / static_cast<float>(n);
}

void rms_norm(float* out, const float* x, const float* weight, int64_t n, float eps) {
  const Floats scale = set(1.0f / square_root(mean_of_squares(x, n) + eps));
  if (weight == nullptr) {
    for_each_pair(out, x, x, n, [scale](Floats value, Floats) { return value * scale; });
  } else {
    for_each_pair(out, x, weight, n, [scale](Floats value, Floats w) { return value * scale * w; });
  }
}

void multiply(float* out, const float* a, const float* b, int64_t n) {
  for_each_pair(out, a, b, n, [](Floats x, Floats y) { return x * y; });
}

void swiglu(float* out, const float* gate, const float* up, int64_t n) {
  for_each_pair(out, gate, up, n, [](Floats g, Floats u) { return g / (set(1.0f) + exponential(set(0.0f) - g)) * u; });
}

// Left to the compiler, which finds the shuffles; without fma its order of operations is the only one.
void rotate_pairs(float* out, const float* x, const float* cosines, const float* sines, int64_t n_pairs) {
  for (int64_t i = 0; i < n_pairs; ++i) {
    const float first = x[2 * i], second = x[2 * i + 1];
    out[2 * i] = first * cosines[i] - second * sines[i];
    out[2 * i + 1] = first * sines[i] + second * cosines[i];
  }
}

void to_halves(uint8_t* out, const float* x, int64_t n) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store_halves(out + 2 * i, load(x + i));
  if (i == n) return;
  uint8_t last[2 * LANES];
  store_halves(last, load_first(x + i, n - i));
  for (int64_t b = 0; b < 2 * (n - i); ++b) out[2 * i + b] = last[b];
}

// The n first lanes of 16 binary16 values; zeros in the others.
PALO_INLINE Floats load_first_halves(const uint8_t* p, int64_t n) {
  uint8_t halves[2 * LANES] = {};
  for (int64_t b = 0; b < 2 * n; ++b) halves[b] = p[b];
  return load_halves(halves);
}

void from_halves(float* out, const uint8_t* x, int64_t n) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(out + i, load_halves(x + 2 * i));
  if (i < n) store_first(out + i, load_first_halves(x + 2 * i, n - i), n - i);
}

// --- Attention over cached cells. What a hidden cell holds is never read: it may be left from another conversation.
// ---

// A score that only minus infinity in the mask can give, and the weight of a hidden cell.
constexpr float HIDDEN_SCORE = -__builtin_huge_valf();
constexpr float LOWEST_SCORE = -1e38f;
constexpr uint16_t HALF_MINUS_INFINITY = 0xFC00;

// Cells whose lines are asked for ahead: rows of one head lie a whole layer's width apart, which no hardware foresees.
constexpr int64_t CELLS_AHEAD = 8;
constexpr int64_t LINE_BYTES = 64;

PALO_INLINE void prefetch_cell(const CacheRows& rows, int64_t cell, int64_t n_cells, int64_t head_size) {
  if (cell >= n_cells) return;
  const uint8_t* at = rows.data + cell * rows.stride;
  for (int64_t b = 0; b < 2 * head_size; b += LINE_BYTES) __builtin_prefetch(at + b);
}

PALO_INLINE bool is_hidden(const uint8_t* mask, int64_t cell) {
  if (mask == nullptr) return false;
  uint16_t half;
  __builtin_memcpy(&half, mask + 2 * cell, sizeof(half));
  return half == HALF_MINUS_INFINITY;
}

// scores[j] = query . keys[j], HIDDEN_SCORE where the mask hides it.
void score_cells(float* scores, const float* query, const CacheRows& keys, const uint8_t* mask, int64_t n_cells,
                 int64_t head_size) {
  for (int64_t j = 0; j < n_cells; ++j) {
    prefetch_cell(keys, j + CELLS_AHEAD, n_cells, head_size);
    if (is_hidden(mask, j)) {
      scores[j] = HIDDEN_SCORE;
      continue;
    }
    const uint8_t* key = keys.data + j * keys.stride;
    Floats sum = set(0.0f);
    for (int64_t d = 0; d < head_size; d += LANES) sum = fma(load(query + d), load_halves(key + 2 * d), sum);
    scores[j] = sum_of_lanes(sum);
  }
}

// scores[j] = scale * scores[j] + mask[j]; HIDDEN_SCORE where the mask is minus infinity, even for NaN.
void scale_and_mask(float* scores, const uint8_t* mask, int64_t n_cells, float scale) {
  for (int64_t j = 0; j < n_cells; j += LANES) {
    const int64_t n = n_cells - j;
    const Floats bias = mask == nullptr ? set(0.0f)
                        : n >= LANES    ? load_halves(mask + 2 * j)
                                        : load_first_halves(mask + 2 * j, n);
    const Floats score = fma(n >= LANES ? load(scores + j) : load_first(scores + j, n), set(scale), bias);
    const Floats shown = where_negative(bias - set(LOWEST_SCORE), set(HIDDEN_SCORE), score);
    n >= LANES ? store(scores + j, shown) : store_first(scores + j, shown, n);
  }
}

// scores -> exp(score - largest), 0 for hidden ones; returns their sum.
float weigh_cells(float* scores, int64_t n_cells, float largest_score) {
  const Floats largest = set(largest_score);
  const auto weigh = [largest](Floats score) PALO_INLINE_LAMBDA {
    return where_negative(score - set(LOWEST_SCORE), set(0.0f), exponential(score - largest));
  };
  Floats sums = set(0.0f);
  int64_t j = 0;
  for (; j + LANES <= n_cells; j += LANES) {
    const Floats weight = weigh(load(scores + j));
    store(scores + j, weight);
    sums = sums + weight;
  }
  if (j < n_cells) {
    store_first(scores + j, weigh(load_first(scores + j, n_cells - j)), n_cells - j);
    sums = sums + load_first(scores + j, n_cells - j);
  }
  return sum_of_lanes(sums);
}

// scores -> weights that sum up to what is returned; 0 where all are hidden, whose weights are 0.
float weights_of_scores(float* scores, const uint8_t* mask, int64_t n_cells, float scale) {
  scale_and_mask(scores, mask, n_cells, scale);
  const float largest = max_of_row(scores, n_cells);
  return weigh_cells(scores, n_cells, largest < LOWEST_SCORE ? 0.0f : largest);
}

void masked_softmax(float* scores, const uint8_t* mask, int64_t n, float scale) {
  const float sum = weights_of_scores(scores, mask, n, scale);
  const Floats factor = set(sum == 0.0f ? 0.0f : 1.0f / sum);
  for_each(scores, n, [factor](Floats weight) { return weight * factor; });
}

// out [VECTORS * 16] = factor * sum_j weights[j] * values[j], a part of the head's width.
template <int64_t VECTORS>
void sum_values(float* out, const float* weights, const CacheRows& values, int64_t n_cells, float factor) {
  Floats sums[VECTORS];
  for (int64_t v = 0; v < VECTORS; ++v) sums[v] = set(0.0f);
  for (int64_t j = 0; j < n_cells; ++j) {
    prefetch_cell(values, j + CELLS_AHEAD, n_cells, VECTORS * LANES);
    if (weights[j] == 0.0f) continue;
    const uint8_t* value = values.data + j * values.stride;
    const Floats weight = set(weights[j]);
    for (int64_t v = 0; v < VECTORS; ++v) sums[v] = fma(weight, load_halves(value + 2 * v * LANES), sums[v]);
  }
  for (int64_t v = 0; v < VECTORS; ++v) store(out + v * LANES, sums[v] * set(factor));
}

void attend(float* out, float* weights, const float* query, const CacheRows& keys, const CacheRows& values,
            const uint8_t* mask, int64_t n_cells, int64_t head_size, float scale) {
  score_cells(weights, query, keys, mask, n_cells, head_size);
  const float sum = weights_of_scores(weights, mask, n_cells, scale);
  const int64_t n_read = sum == 0.0f ? 0 : n_cells;
  const float factor = sum == 0.0f ? 0.0f : 1.0f / sum;
  constexpr int64_t WIDE = 8;  // sums of a head of 128 fill 8 of 16 registers in any instruction set
  int64_t d = 0;
  for (; d + WIDE * LANES <= head_size; d += WIDE * LANES) {
    sum_values<WIDE>(out + d, weights, {values.data + 2 * d, values.stride}, n_read, factor);
  }
  for (; d < head_size; d += LANES) {
    sum_values<1>(out + d, weights, {values.data + 2 * d, values.stride}, n_read, factor);
  }
}

constexpr RowKernels ROW_KERNELS = {
    .rms_norm = rms_norm,
    .multiply = multiply,
    .swiglu = swiglu,
    .rotate_pairs = rotate_pairs,
    .to_halves = to_halves,
    .from_halves = from_halves,
    .masked_softmax = masked_softmax,
    .attend = attend,
};

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
