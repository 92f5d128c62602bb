#include "cpm_bee/relation_bias.h"

#include <algorithm>
#include <cmath>

namespace palo {
namespace {

constexpr uint16_t HALF_MINUS_INFINITY = 0xFC00;

}  // namespace

int32_t position_bucket(int64_t distance, int64_t n_buckets, int64_t max_distance) {
  const int64_t half = n_buckets / 2, n_exact = half / 2, size = std::abs(distance);
  int64_t bucket = size;
  if (size >= n_exact) {
    const double exact = static_cast<double>(n_exact);
    const double share =
        std::log(static_cast<double>(size) / exact) / std::log(static_cast<double>(max_distance) / exact);
    bucket = std::min(half - 1, n_exact + static_cast<int64_t>(share * static_cast<double>(half - n_exact)));
  }
  return static_cast<int32_t>(bucket + (distance > 0 ? half : 0));
}

RelationBias::RelationBias(const CpmBeeConfig& config, const std::vector<uint16_t>& table)
    : n_head_(config.n_head),
      n_rows_(config.n_bias_rows()),
      first_relation_(static_cast<int32_t>(config.n_position_buckets) - 1),
      by_head_(static_cast<size_t>(n_head_ * (n_rows_ + 1)), HALF_MINUS_INFINITY) {
  for (int64_t h = 0; h < n_head_; ++h) {
    for (int64_t r = 0; r < n_rows_; ++r) {
      by_head_[static_cast<size_t>(h * (n_rows_ + 1) + r)] = table[static_cast<size_t>(r * n_head_ + h)];
    }
  }
  for (int64_t d = -config.max_distance; d <= config.max_distance; ++d) {
    of_distance_.push_back(position_bucket(d, config.n_position_buckets, config.max_distance));
  }
}

int32_t RelationBias::row(TokenPlace query, TokenPlace key, const SegmentRelations& relations) const {
  const int32_t code = relations.code(query.segment, key.segment);
  if (code != 0) return first_relation_ + code;
  const auto farthest = static_cast<int64_t>(of_distance_.size()) / 2;
  const int64_t distance = static_cast<int64_t>(key.position) - query.position;
  return of_distance_[static_cast<size_t>(std::clamp(distance, -farthest, farthest) + farthest)];
}

void RelationBias::fill(uint16_t* mask, const int32_t* rows, int64_t query, int64_t n_queries, int64_t n_keys) const {
  for (int64_t h = 0; h < n_head_; ++h) {
    const uint16_t* biases = by_head_.data() + h * (n_rows_ + 1);
    uint16_t* out = mask + (h * n_queries + query) * n_keys;
    for (int64_t j = 0; j < n_keys; ++j) out[j] = biases[rows[j] == HIDDEN ? n_rows_ : rows[j]];
  }
}

}  // namespace palo
