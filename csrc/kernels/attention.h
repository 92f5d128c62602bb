// Scaled dot-product attention over the tokens of each image, without mask.
#pragma once

#include "kernels/compute.h"
#include "kernels/format.h"

namespace palo {

struct AttentionSizes {
  int64_t n_images = 1;
  int64_t n_tokens = 0;   // rows of an image; each is a key and a value
  int64_t n_queries = 0;  // the first rows of an image: only these are computed
  int64_t n_head = 0;
  int64_t head_size = 0;

  int64_t n_embd() const { return n_head * head_size; }
};

// Keys and values of all heads and images, packed as weights; grows as needed and is reused.
struct PackedHeads {
  ByteBuffer keys;    // per image and head: K_h [n_tokens, head_size]
  ByteBuffer values;  // per image and head: V_h^T [head_size, n_tokens]
};

// Per head h of an image: out_h = softmax(q_h k_h^T / sqrt(head_size)) v_h.
// out [n_images * n_tokens, n_embd], heads side by side in a row; qkv [n_images * n_tokens, 3 * n_embd]: q, k and v
// side by side.
void attention(const Compute& compute, Precision precision, float* out, const float* qkv, PackedHeads& packed,
               const AttentionSizes& sizes);

}  // namespace palo
