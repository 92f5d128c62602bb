// Sizes of CPM-Bee, and the one place that checks them.
#pragma once

#include <cstdint>

#include "vision/config.h"

namespace palo {

// Keys of the file: convert/families/viscpm/tensor_rows.py.
struct CpmBeeConfig {
  int64_t n_vocab = 0;
  int64_t n_embd = 0;
  int64_t n_head = 0;
  int64_t n_layer = 0;
  int64_t n_ff = 0;
  float eps = 0.0f;               // of the RMS norms
  float embedding_scale = 0.0f;   // of a token's embedding, not of an image's
  float logit_scale = 0.0f;       // of the logits of the vocabulary
  float residual_divisor = 0.0f;  // after each of a layer's two additions
  float rotary_scale = 0.0f;      // angles of an unknown word's embedding: rotary_scale * sub * base^(-2k / n_embd)
  float rotary_base = 0.0f;
  int64_t n_position_buckets = 0;  // rows of the bias table for two tokens of one segment
  int64_t n_segment_buckets = 0;   // rows for two segments
  int64_t max_distance = 0;        // tokens from which on distances share a row

  int64_t head_size() const { return n_embd / n_head; }
  int64_t n_bias_rows() const { return n_position_buckets + n_segment_buckets; }
};

// Throws FormatError where a size is absent, absurd or contradicts another one.
void check_config(const CpmBeeConfig& config);

}  // namespace palo
