// Scaled dot-product attention over the tokens of each image, without mask.
#pragma once

#include "kernels/compute.h"
#include "kernels/format.h"
#include "kernels/linear.h"

namespace palo {

struct AttentionSizes {
  int64_t n_images = 1;
  int64_t n_tokens = 0;   // rows of an image; each is a key and a value
  int64_t n_queries = 0;  // the first rows of an image: only these are computed
  int64_t n_head = 0;
  int64_t head_size = 0;

  int64_t n_embd() const { return n_head * head_size; }
};

// Queries, keys and values of all heads and images as attention multiplies them. Grows as needed and is reused.
class PackedHeads {
 public:
  // Tokens are written in pieces that start at multiples of this, which all widths of panels and the groups of values
  // divide.
  static constexpr int64_t TOKEN_STEP = Q8_GROUP;

  void shape_for(const KernelTable& kernels, Precision precision, const AttentionSizes& sizes);

  // Writes tokens [token, token + n_tokens) of an image and, of q, k and v side by side, columns [col, col + n_cols):
  // whole heads. x [n_tokens, n_cols] ld ldx.
  void write(int64_t image, int64_t token, int64_t n_tokens, int64_t col, int64_t n_cols, const float* x, int64_t ldx);

  const AttentionSizes& sizes() const { return sizes_; }
  Format format() const { return Format(*kernels_, precision_); }
  // Of one image's head: Q_h [n_tokens, head_size] as rows from `token` on; K_h [n_tokens, head_size] and
  // V_h^T [head_size, n_tokens] as panels.
  const uint8_t* query(int64_t image, int64_t head, int64_t token) const {
    return queries_.data() + query_at(image, head, token);
  }
  const uint8_t* keys(int64_t image, int64_t head) const { return keys_.data() + keys_at(image, head); }
  const uint8_t* values(int64_t image, int64_t head) const { return values_.data() + values_at(image, head); }

 private:
  int64_t index(int64_t image, int64_t head) const { return image * sizes_.n_head + head; }
  // Bytes of all before it.
  int64_t query_at(int64_t image, int64_t head, int64_t token) const {
    return (index(image, head) * sizes_.n_tokens + token) * format().row_bytes(sizes_.head_size);
  }
  int64_t keys_at(int64_t image, int64_t head) const {
    return index(image, head) * format().panels_bytes(sizes_.n_tokens, sizes_.head_size);
  }
  int64_t values_at(int64_t image, int64_t head) const {
    return index(image, head) * format().panels_bytes(sizes_.head_size, sizes_.n_tokens);
  }

  const KernelTable* kernels_ = nullptr;
  Precision precision_ = Precision::FLOAT;
  AttentionSizes sizes_;
  ByteBuffer queries_, keys_, values_;  // [n_images][n_head]
};

// heads = qkv [n_images * n_tokens, 3 * n_embd]: q, k and v side by side.
void pack_heads(const Compute& compute, Precision precision, PackedHeads& heads, const float* qkv,
                const AttentionSizes& sizes);

// heads = x W^T + b, W of q, k and v one below the other, which never exist in f32 as a whole.
void linear(const Compute& compute, PackedHeads& heads, const Rows& x, const Linear& w, const AttentionSizes& sizes);

// Per head h of an image: out_h = softmax(q_h k_h^T / sqrt(head_size)) v_h. out [n_images * n_tokens, n_embd], heads
// side by side in a row.
void attention(const Compute& compute, float* out, const PackedHeads& heads);

}  // namespace palo
