// The vision tower: CLIP ViT (arXiv 2103.00020), as transformers' CLIPVisionTransformer computes it up to one layer.
#pragma once

#include "kernels/threaded.h"
#include "vision/config.h"
#include "vision/weights.h"

namespace palo {

// pixels [3, image_size, image_size], normalised -> patch embeddings [n_patches, n_embd]: the patch convolution.
void patch_embeddings(const Compute& compute, float* out, const float* pixels, const ClipWeights& weights,
                      const VisionConfig& config);

// pixels [3, image_size, image_size] -> hidden state at the select layer without the row of the class token,
// [n_patches, n_embd].
void hidden_states(const Compute& compute, float* out, const float* pixels, const ClipWeights& weights,
                   const VisionConfig& config);

}  // namespace palo
