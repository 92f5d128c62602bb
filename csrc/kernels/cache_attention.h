// Attention of one query over keys and values that are cached as IEEE 754 binary16.
#pragma once

#include <cstdint>

namespace palo {

// One head's cells in a cache of binary16: cell j is j * stride bytes from `data`, aligned to 2.
struct CacheRows {
  const uint8_t* data;
  int64_t stride;
};

// Contract as in kernel_table.h: one thread, no allocation, equal bits on every instruction set but "ref".
struct CacheAttention {
  // scores [n] -> softmax(scale * scores + mask), in place; mask [n] binary16 or nullptr. Where the mask is minus
  // infinity the result is 0 whatever the score is; if it is so everywhere, all results are 0.
  void (*masked_softmax)(float* scores, const uint8_t* mask, int64_t n, float scale);

  // Attention of one query of one head over n_cells cached cells:
  //   weights = softmax(scale * (query . keys[j]) + mask[j]), out[d] = sum_j weights[j] * values[j][d].
  // out, query [head_size], a multiple of 16; weights [n_cells], work space; mask [n_cells] binary16 or nullptr: minus
  // infinity hides a cell, whose keys and values are not even read. If all cells are hidden, out is zero.
  void (*attend)(float* out, float* weights, const float* query, const CacheRows& keys, const CacheRows& values,
                 const uint8_t* mask, int64_t n_cells, int64_t head_size, float scale);
};

}  // namespace palo
