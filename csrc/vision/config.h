// Sizes of a vision tower and its projector, and the one place that checks them.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace palo {

// A model file that cannot be used: damaged, hostile or of an unknown kind. One line, fit for the user.
struct FormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class TowerKind { CLIP, BEIT3 };
enum class ProjectorKind { IDENTITY, MLP, LDP, LDPV2 };

struct VisionConfig {
  TowerKind tower = TowerKind::CLIP;
  int64_t image_size = 0;  // pixels per side
  int64_t patch_size = 0;  // pixels per side
  int64_t n_embd = 0;
  int64_t n_head = 0;
  int64_t n_ff = 0;
  int64_t n_layer = 0;    // layers to run: up to the select layer
  int64_t n_query = 0;    // learned queries of BEiT-3; CLIP has none
  float eps = 0.0f;       // of the tower's LayerNorms
  bool use_gelu = false;  // exact GELU in the tower; else CLIP's gelu_quick
  // Which of two equal shapes is ffn_up, where n_ff equals n_embd: true for files of 2023, which swap the names.
  bool is_square_ffn_swapped = false;
  ProjectorKind projector = ProjectorKind::IDENTITY;
  int64_t n_projector_layers = 0;  // Linear layers of the MLP kind (1: "linear")

  int64_t grid() const { return image_size / patch_size; }
  int64_t n_patches() const { return grid() * grid(); }
  int64_t n_pixels() const { return 3 * image_size * image_size; }  // values of an image
  int64_t n_tokens() const { return n_query + n_patches() + 1; }    // with the class token
  int64_t head_size() const { return n_embd / n_head; }
  // Rows that the tower gives for an image and the projector takes: the queries, or all patches.
  int64_t n_hidden() const { return tower == TowerKind::BEIT3 ? n_query : n_patches(); }
  int64_t n_image_tokens() const;
};

// Throws FormatError where a size is absent, absurd or contradicts another one.
void check_config(const VisionConfig& config);

// Throws FormatError if a width that is known only from the tensors is not one that check_config would accept.
void check_width(const std::string& what, int64_t width);

// Product of two sizes. Throws FormatError if it exceeds 2^48: no tensor is so large, and no later product overflows.
int64_t checked_product(int64_t a, int64_t b, const std::string& what);

}  // namespace palo
