// Attention of one query over cells cached in binary16 (cache_attention.h). What a hidden cell holds is never read: it
// may be left over from another conversation.
#pragma once

#include "kernels/cache_attention.h"
#include "kernels/simd/rows.h"

namespace palo::PALO_SIMD_ISA {
namespace {

// The score of a hidden cell. Any score below LOWEST_SCORE counts as hidden.
constexpr float HIDDEN_SCORE = -__builtin_huge_valf();
constexpr float LOWEST_SCORE = -1e38f;
constexpr uint16_t HALF_MINUS_INFINITY = 0xFC00;

// Cells are prefetched this far ahead: rows of one head are a whole layer's width apart, which no hardware prefetcher
// predicts.
constexpr int64_t CELLS_AHEAD = 8;
constexpr int64_t LINE_BYTES = 64;

PALO_INLINE void prefetch_cell(const CacheRows& rows, int64_t cell, int64_t head_size) {
  const uint8_t* at = rows.data + cell * rows.stride;
  for (int64_t b = 0; b < 2 * head_size; b += LINE_BYTES) __builtin_prefetch(at + b);
}

PALO_INLINE bool is_hidden(const uint8_t* mask, int64_t cell) {
  if (mask == nullptr) return false;
  uint16_t half;
  __builtin_memcpy(&half, mask + 2 * cell, sizeof(half));
  return half == HALF_MINUS_INFINITY;
}

// Whether the mask hides cells [j, j + LANES).
PALO_INLINE bool is_block_hidden(const uint8_t* mask, int64_t j) {
  constexpr uint64_t FOUR_HIDDEN = 0x0001000100010001u * HALF_MINUS_INFINITY;
  uint64_t fours[LANES / 4], seen = 0;
  __builtin_memcpy(fours, mask + 2 * j, sizeof(fours));
  for (const uint64_t four : fours) seen |= four ^ FOUR_HIDDEN;
  return seen == 0;
}

// Blocks of LANES cells that are not hidden as a whole, as runs [begin, end) of cells. The other cells of a cache
// belong to other conversations: with several of them, most do.
struct SeenCells {
  const uint8_t* mask;
  int64_t n_cells;

  int64_t begin_from(int64_t j) const {
    if (mask == nullptr) return j;
    while (j + LANES <= n_cells && is_block_hidden(mask, j)) j += LANES;
    return j;
  }
  int64_t end_from(int64_t j) const {
    if (mask == nullptr) return n_cells;
    while (j + LANES <= n_cells && !is_block_hidden(mask, j)) j += LANES;
    return j + LANES <= n_cells ? j : n_cells;
  }

  // body(begin, end) for each run.
  template <typename Body>
  PALO_INLINE void for_each_run(const Body& body) const {
    for (int64_t begin = begin_from(0), end; begin < n_cells; begin = begin_from(end)) {
      end = end_from(begin);
      body(begin, end);
    }
  }
};

// scores[j] = query . keys[j] for cells [begin, end), HIDDEN_SCORE where the mask hides it.
void score_cells(float* scores, const float* query, const CacheRows& keys, const uint8_t* mask, int64_t begin,
                 int64_t end, int64_t head_size) {
  for (int64_t j = begin; j < end; ++j) {
    const int64_t ahead = j + CELLS_AHEAD;
    if (ahead < end && !is_hidden(mask, ahead)) prefetch_cell(keys, ahead, head_size);
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

// scores -> exp(score - largest), 0 for hidden ones; added to `sums`.
void weigh_cells(Floats& sums, float* scores, int64_t n_cells, float largest_score) {
  const Floats largest = set(largest_score);
  const auto weigh = [largest](Floats score) PALO_INLINE_LAMBDA {
    return where_negative(score - set(LOWEST_SCORE), set(0.0f), exponential(score - largest));
  };
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
}

// Scores of the seen cells -> weights that sum up to what is returned; 0 where all are hidden, whose weights are 0.
float weights_of_scores(float* scores, const SeenCells& seen, float scale) {
  float largest = HIDDEN_SCORE;
  seen.for_each_run([&](int64_t begin, int64_t end) {
    scale_and_mask(scores + begin, seen.mask == nullptr ? nullptr : seen.mask + 2 * begin, end - begin, scale);
    const float largest_of_run = max_of_row(scores + begin, end - begin);
    largest = largest_of_run > largest ? largest_of_run : largest;
  });
  if (largest < LOWEST_SCORE) largest = 0.0f;
  Floats sums = set(0.0f);
  seen.for_each_run([&](int64_t begin, int64_t end) { weigh_cells(sums, scores + begin, end - begin, largest); });
  return sum_of_lanes(sums);
}

void masked_softmax(float* scores, const uint8_t* mask, int64_t n, float scale) {
  const SeenCells seen{mask, n};
  const float sum = weights_of_scores(scores, seen, scale);
  const Floats factor = set(sum == 0.0f ? 0.0f : 1.0f / sum);
  int64_t done = 0;
  seen.for_each_run([&](int64_t begin, int64_t end) {
    __builtin_memset(scores + done, 0, (begin - done) * sizeof(float));
    for_each(scores + begin, end - begin, [factor](Floats weight) { return weight * factor; });
    done = end;
  });
  __builtin_memset(scores + done, 0, (n - done) * sizeof(float));
}

// out [VECTORS * 16] = factor * sum_j weights[j] * values[j] over the seen cells, a part of the head's width.
template <int64_t VECTORS>
void sum_values(float* out, const float* weights, const CacheRows& values, const SeenCells& seen, float factor) {
  Floats sums[VECTORS];
  for (int64_t v = 0; v < VECTORS; ++v) sums[v] = set(0.0f);
  seen.for_each_run([&](int64_t begin, int64_t end) PALO_INLINE_LAMBDA {
    for (int64_t j = begin; j < end; ++j) {
      const int64_t ahead = j + CELLS_AHEAD;
      if (ahead < end && weights[ahead] != 0.0f) prefetch_cell(values, ahead, VECTORS * LANES);
      if (weights[j] == 0.0f) continue;
      const uint8_t* value = values.data + j * values.stride;
      const Floats weight = set(weights[j]);
      for (int64_t v = 0; v < VECTORS; ++v) sums[v] = fma(weight, load_halves(value + 2 * v * LANES), sums[v]);
    }
  });
  for (int64_t v = 0; v < VECTORS; ++v) store(out + v * LANES, sums[v] * set(factor));
}

void attend(float* out, float* weights, const float* query, const CacheRows& keys, const CacheRows& values,
            const uint8_t* mask, int64_t n_cells, int64_t head_size, float scale) {
  const SeenCells seen{mask, n_cells};
  seen.for_each_run(
      [&](int64_t begin, int64_t end) { score_cells(weights, query, keys, mask, begin, end, head_size); });
  const float sum = weights_of_scores(weights, seen, scale);
  if (sum == 0.0f) {
    for_each(out, head_size, [](Floats) { return set(0.0f); });
    return;
  }
  const float factor = 1.0f / sum;
  constexpr int64_t WIDE = 8;  // sums of a head of 128 fill 8 of 16 registers in any instruction set
  int64_t d = 0;
  for (; d + WIDE * LANES <= head_size; d += WIDE * LANES) {
    sum_values<WIDE>(out + d, weights, {values.data + 2 * d, values.stride}, seen, factor);
  }
  for (; d < head_size; d += LANES) {
    sum_values<1>(out + d, weights, {values.data + 2 * d, values.stride}, seen, factor);
  }
}

constexpr CacheAttention CACHE_ATTENTION = {.masked_softmax = masked_softmax, .attend = attend};

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
