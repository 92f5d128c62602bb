// Embeddings of CPM-Bee's tokens. An unknown word of a request has the embedding of `<unk>` (or of a special token's
// name) turned by an angle that grows with its sub id, so that several unknown words differ.
#pragma once

#include <ggml.h>

#include <cstdint>
#include <vector>

#include "cpm_bee/config.h"

namespace palo {

// A token of the vocabulary and, for unknown words, its number among those of the same base; else 0.
struct BeeToken {
  int32_t base = 0;
  int32_t sub = 0;
};

class TokenEmbedding {
 public:
  // Angles are binary16 in the published model, the largest of which is 65504.
  static constexpr int32_t MAX_SUB = 4094;

  // table [n_vocab, n_embd] of any type, which must outlive this.
  TokenEmbedding(const CpmBeeConfig& config, const ggml_tensor* table);

  // out [n_embd] = the scaled and turned row of a token.
  void embed(float* out, BeeToken token) const;

 private:
  void turn(float* row, int32_t sub) const;

  const ggml_tensor* table_;
  float scale_, rotary_scale_;
  int64_t n_embd_;
  std::vector<float> frequencies_;  // [n_embd / 2], rounded to binary16
};

}  // namespace palo
