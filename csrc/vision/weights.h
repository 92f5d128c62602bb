// Weights of CLIP's vision tower and of the projectors, unpacked from an mmproj file. Names: tools/mtmd/clip-impl.h.
#pragma once

#include <vector>

#include "kernels/linear.h"
#include "vision/config.h"
#include "vision/tensor_reader.h"

namespace palo {

// One layer of the tower (transformers: CLIPEncoderLayer).
struct BlockWeights {
  LayerNormWeights ln1, ln2;
  Linear attn_qkv;  // [3 * n_embd, n_embd]: q, k, v
  Linear attn_out;  // [n_embd, n_embd]
  Linear ffn_up;    // [n_ff, n_embd]
  Linear ffn_down;  // [n_embd, n_ff]
};

struct ClipWeights {
  Linear patch_embd;       // [n_embd, 3 * patch_size * patch_size], no bias
  Buffer class_row;        // [n_embd]: pre_ln(class_embd + its position), the same for every image
  Buffer patch_positions;  // [n_patches, n_embd]
  LayerNormWeights pre_ln;
  std::vector<BlockWeights> blocks;
};

// One MobileNetV3 block of the LDP (MobileVLM: `mb_block`), C channels in and out.
struct MbBlockWeights {
  Buffer depthwise;  // [9, C]
  LayerNormWeights depthwise_ln;
  Linear squeeze;    // fc1 [S, C]
  Linear excite;     // fc2 [C, S]
  Linear pointwise;  // [C, C], no bias
  LayerNormWeights pointwise_ln;
};

struct ProjectorWeights {
  std::vector<Linear> mlp;
  std::vector<MbBlockWeights> mb_blocks;  // stride 1, stride 2
  Buffer peg_weight;                      // [9, C]
  Buffer peg_bias;                        // [C]
  int64_t n_embd = 0;                     // width of an image embedding
};

// Throws FormatError that names every tensor of tower and projector that `config` needs and `tensors` lacks.
void check_names(const VisionConfig& config, const TensorMap& tensors);

// Adds the names `prefix`.weight and `prefix`.bias.
void add_weight_and_bias(std::vector<std::string>& names, const std::string& prefix);

std::vector<std::string> clip_names(const VisionConfig& config);
ClipWeights read_clip(const VisionConfig& config, const TensorReader& reader);
ProjectorWeights read_projector(const VisionConfig& config, const TensorReader& reader);

}  // namespace palo
