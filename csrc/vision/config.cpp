#include "vision/config.h"

#include <cmath>

namespace palo {
namespace {

// Far above any published tower (1664 wide, 1024 patches, 336 pixels), and small enough that the activations of the
// worst combination, 4 GiB, fail in the allocator and do not wake the kernel's out-of-memory killer.
constexpr int64_t MAX_WIDTH = 1 << 16;
constexpr int64_t MAX_PATCHES = 1 << 14;
constexpr int64_t MAX_IMAGE_SIZE = 1 << 14;
constexpr int64_t MAX_LAYERS = 1024;
constexpr int64_t MAX_QUERIES = 1 << 12;

void check_range(const std::string& key, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return;
  throw FormatError(key + ": expected " + std::to_string(min) + " to " + std::to_string(max) + ", got " +
                    std::to_string(value) + "; convert the checkpoint again");
}

void check_divides(const std::string& key, int64_t value, const std::string& divisor_key, int64_t divisor) {
  if (value % divisor == 0) return;
  throw FormatError(key + ": expected a multiple of " + divisor_key + " " + std::to_string(divisor) + ", got " +
                    std::to_string(value) + "; convert the checkpoint again");
}

}  // namespace

int64_t VisionConfig::n_image_tokens() const {
  if (projector == ProjectorKind::LDP) return ((grid() + 1) / 2) * ((grid() + 1) / 2);
  if (projector == ProjectorKind::LDPV2) return (grid() / 2) * (grid() / 2);
  return n_hidden();
}

void check_config(const VisionConfig& config) {
  const auto key = [&](const char* name) {
    return (config.tower == TowerKind::BEIT3 ? "beit3." : "clip.vision.") + std::string(name);
  };
  check_range(key("image_size"), config.image_size, 1, MAX_IMAGE_SIZE);
  check_range(key("patch_size"), config.patch_size, 1, config.image_size);
  check_divides(key("image_size"), config.image_size, "patch_size", config.patch_size);
  check_range("patches of an image", config.n_patches(), 1, MAX_PATCHES);
  check_range(key("embedding_length"), config.n_embd, 1, MAX_WIDTH);
  check_range(key("feed_forward_length"), config.n_ff, 1, MAX_WIDTH);
  check_range(key("attention.head_count"), config.n_head, 1, config.n_embd);
  check_divides(key("embedding_length"), config.n_embd, "head_count", config.n_head);
  check_range("layers up to the select layer", config.n_layer, 0, MAX_LAYERS);
  const bool has_queries = config.tower == TowerKind::BEIT3;
  check_range(key("query_count"), config.n_query, has_queries ? 1 : 0, has_queries ? MAX_QUERIES : 0);
  if (!(config.eps > 0.0f && config.eps < 1.0f)) {  // written so that NaN fails
    throw FormatError(key("attention.layer_norm_epsilon") + ": expected a number above 0 and below 1, got " +
                      std::to_string(config.eps) + "; convert the checkpoint again");
  }
  const bool is_grid_projector = config.projector == ProjectorKind::LDP || config.projector == ProjectorKind::LDPV2;
  if (has_queries && is_grid_projector) {
    throw FormatError(
        "projector of BEiT-3: expected identity or mlp, got one over the grid of patches; convert the "
        "checkpoint again");
  }
  if (config.projector == ProjectorKind::MLP) check_range("layers of the projector", config.n_projector_layers, 1, 64);
  if (config.projector == ProjectorKind::LDPV2)
    check_range("patches per side, for ldpv2", config.grid(), 2, MAX_PATCHES);
}

void check_width(const std::string& what, int64_t width) {
  check_range(what, width, 1, MAX_WIDTH);
}

int64_t checked_product(int64_t a, int64_t b, const std::string& what) {
  constexpr int64_t MAX = int64_t{1} << 48;
  if (a < 0 || b < 0 || (b != 0 && a > MAX / b)) {
    throw FormatError(what + ": expected a size below 2^48, got " + std::to_string(a) + " x " + std::to_string(b) +
                      "; the file is damaged, copy or convert it again");
  }
  return a * b;
}

}  // namespace palo
