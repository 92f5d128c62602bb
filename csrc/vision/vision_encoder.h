// pixels -> image embeddings: vision tower and projector of one mmproj file.
#pragma once

#include "vision/clip_vit.h"
#include "vision/projector.h"

namespace palo {

// Immutable once loaded: several threads may use one encoder.
class VisionEncoder {
 public:
  // Checks everything, then converts and packs the weights; `tensors` is not needed afterwards.
  // Throws FormatError for a bad file, std::invalid_argument for a bad n_threads or PALO_CPP_ISA.
  VisionEncoder(const VisionConfig& config, const TensorMap& tensors, int n_threads);

  const VisionConfig& config() const { return config_; }
  int64_t n_embd() const { return projector_.n_embd; }
  int n_threads() const { return pool_.n_threads(); }
  const char* isa() const { return compute_.kernels.isa; }

  // Each for one image; shapes as in clip_vit.h and projector.h.
  void patch_embeddings(float* out, const float* pixels) const;
  void hidden_states(float* out, const float* pixels) const;
  void project(float* out, const float* hidden) const;
  void encode(float* out, const float* pixels) const;  // project(hidden_states(pixels))

 private:
  VisionConfig config_;
  mutable ThreadPool pool_;  // computing does not change the encoder
  Compute compute_;
  ClipWeights clip_;
  ProjectorWeights projector_;
};

}  // namespace palo
