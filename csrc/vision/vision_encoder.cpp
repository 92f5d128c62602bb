#include "vision/vision_encoder.h"

#include <algorithm>

namespace palo {
namespace {

// Images that go through the tower together: more would take more memory (16 MiB each) and be no faster.
constexpr int64_t MAX_BATCH = 4;

// Runs body(first image, number of images) for batches of at most MAX_BATCH.
template <typename Body>
void for_batches(int64_t n_images, const Body& body) {
  for (int64_t i = 0; i < n_images; i += MAX_BATCH) body(i, std::min(MAX_BATCH, n_images - i));
}

}  // namespace

// Borrows the kept memory, or new memory if another call has it, and keeps it at the end.
class VisionEncoder::Lease {
 public:
  explicit Lease(const VisionEncoder& encoder) : encoder_(encoder) {
    const std::lock_guard lock(encoder.memory_mutex_);
    memory_ = std::move(encoder.kept_memory_);
    if (memory_ == nullptr) memory_ = std::make_unique<Memory>(encoder.n_threads());
  }
  ~Lease() {
    const std::lock_guard lock(encoder_.memory_mutex_);
    encoder_.kept_memory_ = std::move(memory_);
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  Memory& memory() { return *memory_; }
  Compute compute() { return {encoder_.kernels_, encoder_.pool_, memory_->scratch}; }

 private:
  const VisionEncoder& encoder_;
  std::unique_ptr<Memory> memory_;
};

VisionEncoder::VisionEncoder(const VisionConfig& config, const TensorMap& tensors, const EncoderOptions& options)
    : config_(config), kernels_(kernels()), pool_(options.n_threads) {
  check_config(config_);
  check_names(config_, tensors);
  Scratch scratch(n_threads());
  const TensorReader reader(tensors, {kernels_, pool_, scratch}, options.precision, options.is_file_mapping);
  tower_ = read_tower(config_, reader);
  projector_ = read_projector(config_, reader);
}

void VisionEncoder::patch_embeddings(float* out, const float* pixels, int64_t n_images) const {
  Lease lease(*this);
  tower_->patch_embeddings(lease.compute(), out, pixels, n_images);
}

void VisionEncoder::hidden_states(float* out, const float* pixels, int64_t n_images) const {
  Lease lease(*this);
  const int64_t n_values = config_.n_hidden() * config_.n_embd;
  for_batches(n_images, [&](int64_t i, int64_t n) {
    tower_->hidden_states(lease.compute(), out + i * n_values, pixels + i * config_.n_pixels(), n,
                          lease.memory().tower);
  });
}

void VisionEncoder::residual_stream(float* out, const float* pixels, int64_t n_images, int64_t n_run) const {
  if (n_run != 0 && (n_run < 0 || n_run >= config_.n_layer)) {
    throw std::invalid_argument("n_run: expected 0 to " + std::to_string(config_.n_layer - 1) + ", got " +
                                std::to_string(n_run) + "; the last layer is in hidden_states");
  }
  Lease lease(*this);
  const int64_t n_values = config_.n_tokens() * config_.n_embd;
  for_batches(n_images, [&](int64_t i, int64_t n) {
    tower_->residual_stream(lease.compute(), out + i * n_values, pixels + i * config_.n_pixels(), n, n_run,
                            lease.memory().tower);
  });
}

void VisionEncoder::project(float* out, const float* hidden, int64_t n_images) const {
  Lease lease(*this);
  const int64_t n_in = config_.n_hidden() * config_.n_embd, n_out = config_.n_image_tokens() * n_embd();
  for_batches(n_images, [&](int64_t i, int64_t n) {
    palo::project(lease.compute(), out + i * n_out, hidden + i * n_in, n, lease.memory().projector, projector_,
                  config_);
  });
}

void VisionEncoder::encode(float* out, const float* pixels, int64_t n_images) const {
  Lease lease(*this);
  Memory& memory = lease.memory();
  const int64_t n_out = config_.n_image_tokens() * n_embd();
  for_batches(n_images, [&](int64_t i, int64_t n) {
    float* hidden = memory.hidden.at_least(n * config_.n_hidden() * config_.n_embd);
    tower_->hidden_states(lease.compute(), hidden, pixels + i * config_.n_pixels(), n, memory.tower);
    palo::project(lease.compute(), out + i * n_out, hidden, n, memory.projector, projector_, config_);
  });
}

}  // namespace palo
