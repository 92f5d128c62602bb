// Attention of one query over keys and values that are cached as IEEE 754 binary16.
#pragma once

#include <cstdint>

namespace palo {

// Cells of a cache of binary16: head h of cell j is at data + j * stride + h * head_stride, in bytes; aligned to 2.
struct CacheRows {
  const uint8_t* data;
  int64_t stride, head_stride;
};

// Query heads that are attended together, n_sharing of them to each head of the keys and values. A cell's heads are
// neighbours in memory, which is read fastest in its order.
struct QueryHeads {
  int64_t n_heads, n_sharing, head_size;  // head_size is a multiple of 16
  int64_t query_stride;                   // floats between heads of the query; those of out are dense
};

// Contract as in kernel_table.h: one thread, no allocation, equal bits on every instruction set but "ref".
struct CacheAttention {
  // scores [n] -> softmax(scale * scores + mask), in place; mask [n] binary16 or nullptr. Where the mask is minus
  // infinity the result is 0 whatever the score is; if it is so everywhere, all results are 0.
  void (*masked_softmax)(float* scores, const uint8_t* mask, int64_t n, float scale);

  // Attention of one query over n_cells cached cells, for each head of `heads`:
  //   weights = softmax(scale * (query . keys[j]) + mask[j]), out[d] = sum_j weights[j] * values[j][d].
  // out, query [n_heads, head_size]; weights [n_heads, attention_weights_stride(n_cells)], work space; mask [n_cells]
  // binary16 or nullptr: minus infinity hides a cell, whose keys and values are not even read. If all cells are hidden,
  // out is zero. A head's bits do not depend on which others are with it.
  void (*attend)(float* out, float* weights, const float* query, const CacheRows& keys, const CacheRows& values,
                 const uint8_t* mask, int64_t n_cells, const QueryHeads& heads, float scale);
};

// Floats from the weights of one head to those of the next: not the same cache set for all of them.
constexpr int64_t attention_weights_stride(int64_t n_cells) {
  return n_cells + 16;
}

}  // namespace palo
