// BEiT-3's vision tower (arXiv 2208.10442) with learned queries, as VisCPM runs it: image tokens and queries have
// weights of their own, but attend to each other. Sub-LayerNorm: torchscale 0.2.0, architecture/encoder.py.
#pragma once

#include "vision/beit3_weights.h"
#include "vision/tower.h"

namespace palo {

// Its hidden states are the queries' after the last norm.
class Beit3 : public Tower {
 public:
  Beit3(const VisionConfig& config, const TensorReader& reader)
      : config_(config), weights_(read_beit3(config, reader)) {}

  void patch_embeddings(const Compute& compute, float* out, const float* pixels, int64_t n_images) const override;
  void hidden_states(const Compute& compute, float* out, const float* pixels, int64_t n_images,
                     TowerMemory& memory) const override;
  // Order of the tokens: class token, patches, queries.
  void residual_stream(const Compute& compute, float* out, const float* pixels, int64_t n_images, int64_t n_run,
                       TowerMemory& memory) const override;

 private:
  VisionConfig config_;
  Beit3Weights weights_;
};

}  // namespace palo
