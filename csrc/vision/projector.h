// The projectors: hidden states of patches or queries -> image embeddings of the decoder's width.
#pragma once

#include "kernels/linear.h"
#include "vision/config.h"
#include "vision/weights.h"

namespace palo {

// Activations of a batch of images; grows as needed and is reused.
struct ProjectorMemory {
  Rows rows, next_rows;
  Buffer grid;      // [n_images, grid, grid, n_embd]: output of the mlp
  Buffer mixed;     // [n_images, grid, grid, n_embd]: output of the first mb_block
  Buffer filtered;  // [n_images, side, side, n_embd]: inside an mb_block, or pooled
  Buffer means;     // [n_images, side + 1, n_embd]
  Buffer scales;    // [n_images, n_embd]
};

// out [n_images, config.n_image_tokens(), weights.n_embd]; hidden [n_images, config.n_hidden(), config.n_embd].
void project(const Compute& compute, float* out, const float* hidden, int64_t n_images, ProjectorMemory& memory,
             const ProjectorWeights& weights, const VisionConfig& config);

}  // namespace palo
