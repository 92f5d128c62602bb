// Attention over a cache on the portable instruction set (cache_attention.h): plain loops, sums in double.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cache_attention.h"
#include "kernels/half.h"
#include "kernels/ref.h"

namespace palo::ref {
namespace {

double score(const float* query, const uint8_t* key, int64_t head_size) {
  double sum = 0.0;
  for (int64_t d = 0; d < head_size; ++d) sum += static_cast<double>(query[d]) * read_half(key + 2 * d);
  return sum;
}

void masked_softmax(float* scores, const uint8_t* mask, int64_t n, float scale) {
  constexpr float HIDDEN = -std::numeric_limits<float>::infinity();
  for (int64_t j = 0; j < n; ++j) {
    const float bias = mask == nullptr ? 0.0f : read_half(mask + 2 * j);
    scores[j] = bias == HIDDEN ? HIDDEN : scale * scores[j] + bias;
  }
  const float largest = *std::max_element(scores, scores + n);
  if (largest == HIDDEN) {
    std::fill_n(scores, n, 0.0f);
    return;
  }
  double sum = 0.0;
  for (int64_t j = 0; j < n; ++j) {
    scores[j] = std::exp(scores[j] - largest);
    sum += scores[j];
  }
  for (int64_t j = 0; j < n; ++j) scores[j] = static_cast<float>(scores[j] / sum);
}

void attend_head(float* out, float* weights, const float* query, const CacheRows& keys, const CacheRows& values,
                 const uint8_t* mask, int64_t n_cells, int64_t head_size, float scale) {
  for (int64_t j = 0; j < n_cells; ++j) {
    weights[j] = static_cast<float>(score(query, keys.data + j * keys.stride, head_size));
  }
  masked_softmax(weights, mask, n_cells, scale);
  for (int64_t d = 0; d < head_size; ++d) {
    double total = 0.0;
    for (int64_t j = 0; j < n_cells; ++j) {
      if (weights[j] != 0.0f) total += weights[j] * read_half(values.data + j * values.stride + 2 * d);
    }
    out[d] = static_cast<float>(total);
  }
}

void attend(float* out, float* weights, const float* query, const CacheRows& keys, const CacheRows& values,
            const uint8_t* mask, int64_t n_cells, const QueryHeads& heads, float scale) {
  for (int64_t h = 0; h < heads.n_heads; ++h) {
    const int64_t head_kv = h / heads.n_sharing;
    attend_head(out + h * heads.head_size, weights, query + h * heads.query_stride,
                {keys.data + head_kv * keys.head_stride, keys.stride, 0},
                {values.data + head_kv * values.head_stride, values.stride, 0}, mask, n_cells, heads.head_size, scale);
  }
}

}  // namespace

const CacheAttention& cache_attention() {
  static constexpr CacheAttention KERNELS = {.masked_softmax = masked_softmax, .attend = attend};
  return KERNELS;
}

}  // namespace palo::ref
