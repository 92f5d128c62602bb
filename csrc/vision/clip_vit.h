// CLIP's vision tower: ViT (arXiv 2103.00020), as transformers' CLIPVisionTransformer computes it up to one layer.
#pragma once

#include "vision/tower.h"
#include "vision/weights.h"

namespace palo {

// Its hidden states are those at the select layer, without the row of the class token.
class ClipVit : public Tower {
 public:
  ClipVit(const VisionConfig& config, const TensorReader& reader)
      : config_(config), weights_(read_clip(config, reader)) {}

  void patch_embeddings(const Compute& compute, float* out, const float* pixels, int64_t n_images) const override;
  void hidden_states(const Compute& compute, float* out, const float* pixels, int64_t n_images,
                     TowerMemory& memory) const override;
  void residual_stream(const Compute& compute, float* out, const float* pixels, int64_t n_images, int64_t n_run,
                       TowerMemory& memory) const override;

 private:
  VisionConfig config_;
  ClipWeights weights_;
};

}  // namespace palo
