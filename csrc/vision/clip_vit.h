// The vision tower: CLIP ViT (arXiv 2103.00020), as transformers' CLIPVisionTransformer computes it up to one layer.
#pragma once

#include "kernels/attention.h"
#include "kernels/linear.h"
#include "vision/config.h"
#include "vision/weights.h"

namespace palo {

// Activations of a batch of images; grows as needed and is reused by every layer.
struct TowerMemory {
  Buffer hidden;  // [n_images * n_tokens, n_embd]: the residual stream; an image's class token is its last row
  Buffer qkv;     // [n_images * n_tokens, 3 * n_embd]
  Buffer attended;
  Rows rows, ffn_rows;
  PackedHeads heads;
};

// pixels [n_images, 3, image_size, image_size], normalized -> patch embeddings [n_images, n_patches, n_embd]: the patch
// convolution.
void patch_embeddings(const Compute& compute, float* out, const float* pixels, int64_t n_images,
                      const ClipWeights& weights, const VisionConfig& config);

// pixels [n_images, 3, image_size, image_size] -> hidden states at the select layer without the row of the class token,
// [n_images, n_patches, n_embd].
void hidden_states(const Compute& compute, float* out, const float* pixels, int64_t n_images, TowerMemory& memory,
                   const ClipWeights& weights, const VisionConfig& config);

}  // namespace palo
