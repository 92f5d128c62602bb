#include "vision/vision_encoder.h"

namespace palo {

VisionEncoder::VisionEncoder(const VisionConfig& config, const TensorMap& tensors, int n_threads)
    : config_(config), pool_(n_threads), compute_{kernels(), pool_} {
  check_config(config_);
  check_names(config_, tensors);
  const TensorReader reader(tensors, compute_);
  clip_ = read_clip(config_, reader);
  projector_ = read_projector(config_, reader);
}

void VisionEncoder::patch_embeddings(float* out, const float* pixels) const {
  palo::patch_embeddings(compute_, out, pixels, clip_, config_);
}

void VisionEncoder::hidden_states(float* out, const float* pixels) const {
  palo::hidden_states(compute_, out, pixels, clip_, config_);
}

void VisionEncoder::project(float* out, const float* hidden) const {
  palo::project(compute_, out, hidden, projector_, config_);
}

void VisionEncoder::encode(float* out, const float* pixels) const {
  Buffer hidden(config_.n_patches() * config_.n_embd);
  hidden_states(hidden.data(), pixels);
  project(out, hidden.data());
}

}  // namespace palo
