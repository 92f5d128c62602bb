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

// Cells are prefetched this far ahead.
constexpr int64_t CELLS_AHEAD = 8;
constexpr int64_t LINE_BYTES = 64;

PALO_INLINE void prefetch(const uint8_t* at, int64_t n_bytes) {
  for (int64_t b = 0; b < n_bytes; b += LINE_BYTES) __builtin_prefetch(at + b);
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
class SeenCells {
 public:
  SeenCells(const uint8_t* cell_mask, int64_t n_cells) : mask(cell_mask) {
    for (int64_t begin = begin_from(0, n_cells); begin < n_cells; begin = begin_from(runs_[n_runs_ - 1].end, n_cells)) {
      const int64_t end = n_runs_ + 1 < MAX_RUNS ? end_from(begin, n_cells) : n_cells;
      runs_[n_runs_++] = {begin, end};
    }
  }

  // body(begin, end) for each run.
  template <typename Body>
  PALO_INLINE void for_each_run(const Body& body) const {
    for (int64_t i = 0; i < n_runs_; ++i) body(runs_[i].begin, runs_[i].end);
  }

  const uint8_t* const mask;

 private:
  struct Run {
    int64_t begin, end;
  };
  // A run may have hidden blocks, so the last one takes all that is left.
  static constexpr int64_t MAX_RUNS = 32;

  int64_t begin_from(int64_t j, int64_t n_cells) const {
    if (mask == nullptr) return j;
    while (j + LANES <= n_cells && is_block_hidden(mask, j)) j += LANES;
    return j;
  }
  int64_t end_from(int64_t j, int64_t n_cells) const {
    if (mask == nullptr) return n_cells;
    while (j + LANES <= n_cells && !is_block_hidden(mask, j)) j += LANES;
    return j + LANES <= n_cells ? j : n_cells;
  }

  Run runs_[MAX_RUNS];
  int64_t n_runs_ = 0;
};

// scores[h][j] = query[h] . the keys of cell j, for cells [begin, end) that the mask does not hide; else HIDDEN_SCORE.
void score_cells(float* scores, int64_t ld, const float* query, const CacheRows& keys, const uint8_t* mask,
                 int64_t begin, int64_t end, const QueryHeads& heads) {
  for (int64_t j = begin; j < end; ++j) {
    if (is_hidden(mask, j)) {
      for (int64_t h = 0; h < heads.n_heads; ++h) scores[h * ld + j] = HIDDEN_SCORE;
      continue;
    }
    const uint8_t* cell = keys.data + j * keys.stride;
    const bool is_ahead_seen = j + CELLS_AHEAD < end && !is_hidden(mask, j + CELLS_AHEAD);
    for (int64_t h = 0; h < heads.n_heads; ++h) {
      const uint8_t* key = cell + h / heads.n_sharing * keys.head_stride;
      if (is_ahead_seen) prefetch(key + CELLS_AHEAD * keys.stride, 2 * heads.head_size);
      const float* q = query + h * heads.query_stride;
      Floats sum = set(0.0f);
      for (int64_t d = 0; d < heads.head_size; d += LANES) sum = fma(load(q + d), load_halves(key + 2 * d), sum);
      scores[h * ld + j] = sum_of_lanes(sum);
    }
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
  const SeenCells seen(mask, n);
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

// Neighbouring cells whose values are added before the next head's.
constexpr int64_t N_VALUE_CELLS = 8;

// out [VECTORS * LANES] += sum_i weights[cells[i]] * values[cells[i]], a part of a head's width; cells go on up to
// `end`.
template <int64_t VECTORS>
PALO_INLINE void add_values(float* out, const float* weights, const uint8_t* values, int64_t stride,
                            const int64_t* cells, int64_t n_cells, int64_t end) {
  Floats sums[VECTORS];
  for (int64_t v = 0; v < VECTORS; ++v) sums[v] = load(out + v * LANES);
  for (int64_t i = 0; i < n_cells; ++i) {
    const uint8_t* value = values + cells[i] * stride;
    if (cells[i] + CELLS_AHEAD < end) prefetch(value + CELLS_AHEAD * stride, 2 * VECTORS * LANES);
    const Floats weight = set(weights[cells[i]]);
    for (int64_t v = 0; v < VECTORS; ++v) sums[v] = fma(weight, load_halves(value + 2 * v * LANES), sums[v]);
  }
  for (int64_t v = 0; v < VECTORS; ++v) store(out + v * LANES, sums[v]);
}

// out[h] += sum_j weights[h][j] * values[j] for cells [begin, end) that the mask does not hide.
void add_cells(float* out, const float* weights, int64_t ld, const CacheRows& values, const uint8_t* mask,
               int64_t begin, int64_t end, const QueryHeads& heads) {
  constexpr int64_t WIDE = 4 * PANEL_VECTORS;  // sums fill half of the registers
  int64_t cells[N_VALUE_CELLS];
  for (int64_t j = begin; j < end;) {
    int64_t n = 0;
    for (; j < end && n < N_VALUE_CELLS; ++j) {
      if (!is_hidden(mask, j)) cells[n++] = j;
    }
    for (int64_t h = 0; h < heads.n_heads; ++h) {
      const uint8_t* at = values.data + h / heads.n_sharing * values.head_stride;
      float* sums = out + h * heads.head_size;
      int64_t d = 0;
      for (; d + WIDE * LANES <= heads.head_size; d += WIDE * LANES) {
        add_values<WIDE>(sums + d, weights + h * ld, at + 2 * d, values.stride, cells, n, end);
      }
      for (; d < heads.head_size; d += LANES) {
        add_values<1>(sums + d, weights + h * ld, at + 2 * d, values.stride, cells, n, end);
      }
    }
  }
}

void attend(float* out, float* weights, const float* query, const CacheRows& keys, const CacheRows& values,
            const uint8_t* mask, int64_t n_cells, const QueryHeads& heads, float scale) {
  const SeenCells seen(mask, n_cells);
  const int64_t ld = attention_weights_stride(n_cells);
  seen.for_each_run(
      [&](int64_t begin, int64_t end) { score_cells(weights, ld, query, keys, mask, begin, end, heads); });
  for (int64_t h = 0; h < heads.n_heads; ++h) {
    const float sum = weights_of_scores(weights + h * ld, seen, scale);
    weights[h * ld + n_cells] = sum == 0.0f ? 0.0f : 1.0f / sum;  // ld leaves room
    for_each(out + h * heads.head_size, heads.head_size, [](Floats) { return set(0.0f); });
  }
  seen.for_each_run([&](int64_t begin, int64_t end) { add_cells(out, weights, ld, values, mask, begin, end, heads); });
  for (int64_t h = 0; h < heads.n_heads; ++h) {
    const Floats factor = set(weights[h * ld + n_cells]);
    for_each(out + h * heads.head_size, heads.head_size, [factor](Floats sum) { return sum * factor; });
  }
}

constexpr CacheAttention CACHE_ATTENTION = {.masked_softmax = masked_softmax, .attend = attend};

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
