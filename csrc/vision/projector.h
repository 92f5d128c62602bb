// The projectors: hidden states of the patches -> image embeddings of the decoder's width.
#pragma once

#include "kernels/threaded.h"
#include "vision/config.h"
#include "vision/weights.h"

namespace palo {

// out [config.n_image_tokens(), weights.n_embd]; hidden [config.n_patches(), config.n_embd].
void project(const Compute& compute, float* out, const float* hidden, const ProjectorWeights& weights,
             const VisionConfig& config);

}  // namespace palo
