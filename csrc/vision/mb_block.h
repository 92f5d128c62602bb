// One block of the LDP projector: MobileVLM's mb_block, an InvertedResidual of MobileNetV3 (arXiv 1905.02244) with
// LayerNorm over channels; channels last throughout.
#pragma once

#include "kernels/linear.h"
#include "vision/projector.h"
#include "vision/weights.h"

namespace palo {

// in [n_images, side, side, C] -> out [n_images, ceil(side / stride), ceil(side / stride), C]; with stride 1 plus `in`.
void run_mb_block(const Compute& compute, float* out, const float* in, int64_t n_images, ProjectorMemory& memory,
                  const MbBlockWeights& weights, int64_t side, int64_t stride);

}  // namespace palo
