// What attention adds to the scores of CPM-Bee: a learned bias for each head, by how two tokens' segments relate or, in
// one segment, by how far apart the tokens are. It takes the place of rotary positions on queries and keys.
#pragma once

#include <cstdint>
#include <vector>

#include "cpm_bee/config.h"

namespace palo {

// Where a token is: a node of the request's tree, and its place there (an answer begins again at 0).
struct TokenPlace {
  int32_t segment = 0;
  int32_t position = 0;
};

// For each two segments (query's, key's) a code: 0 for the same segment, else 8 * levels up + levels down + 1.
struct SegmentRelations {
  int64_t n_segments = 0;
  std::vector<int32_t> codes;  // [n_segments, n_segments]

  int32_t code(int32_t query, int32_t key) const { return codes[static_cast<size_t>(query * n_segments + key)]; }
};

// Row of the bias table for two tokens of one segment, by the key's position minus the query's: exact up to a quarter
// of the buckets, then logarithmic; the upper half of the buckets is for keys that come after the query.
int32_t position_bucket(int64_t distance, int64_t n_buckets, int64_t max_distance);

class RelationBias {
 public:
  // table [n_bias_rows, n_head] IEEE 754 binary16, as in the file.
  RelationBias(const CpmBeeConfig& config, const std::vector<uint16_t>& table);

  // Row of the table.
  int32_t row(TokenPlace query, TokenPlace key, const SegmentRelations& relations) const;

  // One query's part of a mask [n_head, n_queries, n_keys] binary16: the bias of each head and key, minus infinity
  // where rows[key] is HIDDEN.
  static constexpr int32_t HIDDEN = -1;
  void fill(uint16_t* mask, const int32_t* rows, int64_t query, int64_t n_queries, int64_t n_keys) const;

 private:
  int64_t n_head_, n_rows_;
  int32_t first_relation_;            // row of code 1, minus 1
  std::vector<uint16_t> by_head_;     // [n_head, n_bias_rows + 1], the last of each minus infinity
  std::vector<int32_t> of_distance_;  // [2 * max_distance + 1], from -max_distance on
};

}  // namespace palo
