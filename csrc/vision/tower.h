// What every vision tower offers: pixels -> the hidden states that the projector takes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/linear.h"
#include "vision/config.h"
#include "vision/tensor_reader.h"

namespace palo {

// Activations of a batch of images; grows as needed and is reused by every layer. What a tower does not use stays
// empty.
struct TowerMemory {
  Buffer hidden;    // [n_images * n_tokens, n_embd]: the residual stream; each tower orders an image's rows its way
  Buffer qkv;       // BEiT-3: [n_images * n_tokens, 3 * n_embd]
  Buffer attended;  // [n_images * n_tokens, n_embd]
  Buffer inner;     // BEiT-3: [n_images * n_tokens, n_ff]
  Rows rows, ffn_rows;
  Rows query_rows;  // BEiT-3
  PackedHeads heads;
};

// The weights of one tower and its forward pass. pixels [n_images, 3, image_size, image_size], normalized. Computing
// changes nothing but the memory that it is given.
class Tower {
 public:
  virtual ~Tower() = default;

  // out [n_images, n_patches, n_embd]: the patch convolution alone.
  virtual void patch_embeddings(const Compute& compute, float* out, const float* pixels, int64_t n_images) const = 0;

  // out [n_images, n_hidden, n_embd].
  virtual void hidden_states(const Compute& compute, float* out, const float* pixels, int64_t n_images,
                             TowerMemory& memory) const = 0;

  // out [n_images, n_tokens, n_embd]: all tokens in the model's order after the first n_run layers, fewer than the
  // model has (the last one computes only what hidden_states needs); the embedding after none.
  virtual void residual_stream(const Compute& compute, float* out, const float* pixels, int64_t n_images, int64_t n_run,
                               TowerMemory& memory) const = 0;
};

// Names of all tensors that the tower of `config` needs.
std::vector<std::string> tower_names(const VisionConfig& config);

std::unique_ptr<Tower> read_tower(const VisionConfig& config, const TensorReader& reader);

}  // namespace palo
