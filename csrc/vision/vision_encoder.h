// pixels -> image embeddings: vision tower and projector of one mmproj file.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "vision/projector.h"
#include "vision/tower.h"

namespace palo {

struct EncoderOptions {
  int n_threads = 1;
  Precision precision = Precision::INT8;
  // The tensors are in a file mapped read-only: the pages of what has been packed are released at once.
  bool is_file_mapping = false;
};

// Its weights never change once loaded: several threads may use one encoder.
class VisionEncoder {
 public:
  // Checks everything, then converts and packs the weights; `tensors` is not needed afterwards.
  // Throws FormatError for a bad file, std::invalid_argument for a bad n_threads or PALO_CPP_ISA.
  VisionEncoder(const VisionConfig& config, const TensorMap& tensors, const EncoderOptions& options);

  const VisionConfig& config() const { return config_; }
  int64_t n_embd() const { return projector_.n_embd; }
  int n_threads() const { return pool_.n_threads(); }
  const char* isa() const { return kernels_.isa; }

  // Each for n_images; shapes as in tower.h and projector.h.
  void patch_embeddings(float* out, const float* pixels, int64_t n_images) const;
  void hidden_states(float* out, const float* pixels, int64_t n_images) const;
  // Throws std::invalid_argument unless 0 <= n_run < number of layers, or both are 0.
  void residual_stream(float* out, const float* pixels, int64_t n_images, int64_t n_run) const;
  void project(float* out, const float* hidden, int64_t n_images) const;
  void encode(float* out, const float* pixels, int64_t n_images) const;  // project(hidden_states(pixels))

 private:
  // All memory of one call.
  struct Memory {
    explicit Memory(int n_threads) : scratch(n_threads) {}
    Scratch scratch;
    TowerMemory tower;
    ProjectorMemory projector;
    Buffer hidden;  // [n_images, n_hidden, n_embd]
  };
  class Lease;

  VisionConfig config_;
  const KernelTable& kernels_;
  mutable ThreadPool pool_;  // computing does not change the encoder
  std::unique_ptr<const Tower> tower_;
  ProjectorWeights projector_;

  // One call's memory is kept for the next: fresh memory costs a page fault per 4 KiB.
  mutable std::mutex memory_mutex_;
  mutable std::unique_ptr<Memory> kept_memory_;
};

}  // namespace palo
