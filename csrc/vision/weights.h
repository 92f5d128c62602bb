// Weights of the vision tower and the projector, unpacked from an mmproj file. Names: tools/mtmd/clip-impl.h.
#pragma once

#include <vector>

#include "kernels/threaded.h"
#include "vision/config.h"
#include "vision/tensor_reader.h"

namespace palo {

// One layer of the tower (transformers: CLIPEncoderLayer).
struct BlockWeights {
  LayerNormWeights ln1, ln2;
  LinearWeights attn_q, attn_k, attn_v, attn_out;  // [n_embd, n_embd]
  LinearWeights ffn_up;                            // [n_ff, n_embd]
  LinearWeights ffn_down;                          // [n_embd, n_ff]
};

struct ClipWeights {
  LinearWeights patch_embd;  // [n_embd, 3 * patch_size * patch_size], no bias
  Buffer class_embd;         // [n_embd]
  Buffer position_embd;      // [1 + n_patches, n_embd]
  LayerNormWeights pre_ln;
  std::vector<BlockWeights> blocks;
};

// One MobileNetV3 block of the LDP (MobileVLM: `mb_block`), C channels in and out.
struct LdpBlockWeights {
  Buffer depthwise;  // [9, C]
  LayerNormWeights depthwise_ln;
  LinearWeights squeeze;    // fc1 [S, C]
  LinearWeights excite;     // fc2 [C, S]
  LinearWeights pointwise;  // [C, C], no bias
  LayerNormWeights pointwise_ln;
};

struct ProjectorWeights {
  std::vector<LinearWeights> mlp;
  std::vector<LdpBlockWeights> ldp_blocks;  // stride 1, stride 2
  Buffer peg_weight;                        // [9, C]
  Buffer peg_bias;                          // [C]
  int64_t n_embd = 0;                       // width of an image embedding
};

// Throws FormatError that names every tensor that `config` asks for and `tensors` lacks.
void check_names(const VisionConfig& config, const TensorMap& tensors);

ClipWeights read_clip(const VisionConfig& config, const TensorReader& reader);
ProjectorWeights read_projector(const VisionConfig& config, const TensorReader& reader);

}  // namespace palo
