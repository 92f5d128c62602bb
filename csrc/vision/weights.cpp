#include "vision/weights.h"

#include <algorithm>
#include <utility>

#include "vision/tower.h"

namespace palo {
namespace {

std::string block_name(int64_t layer, const std::string& part) {
  return "v.blk." + std::to_string(layer) + "." + part;
}

std::string mlp_name(const VisionConfig& config, int64_t i) {
  // The odd places of the nn.Sequential are GELUs; MobileVLM V1 begins with an nn.Identity.
  if (config.projector == ProjectorKind::LDP) return "mm.model.mlp." + std::to_string(2 * i + 1);
  if (config.projector == ProjectorKind::LDPV2) return "mm.model.mlp." + std::to_string(2 * i);
  return "mm." + std::to_string(2 * i);
}

int64_t n_mlp_layers(const VisionConfig& config) {
  if (config.projector == ProjectorKind::IDENTITY) return 0;
  return config.projector == ProjectorKind::MLP ? config.n_projector_layers : 2;
}

std::string ldp_name(int64_t block, const std::string& part) {
  return "mm.model.mb_block." + std::to_string(block) + ".block." + part;
}

std::vector<std::string> projector_names(const VisionConfig& config) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < n_mlp_layers(config); ++i) add_weight_and_bias(names, mlp_name(config, i));
  if (config.projector == ProjectorKind::LDPV2) add_weight_and_bias(names, "mm.model.peg.0");
  for (int64_t block = 1; config.projector == ProjectorKind::LDP && block <= 2; ++block) {
    names.push_back(ldp_name(block, "0.0.weight"));
    names.push_back(ldp_name(block, "2.0.weight"));
    for (const char* part : {"0.1", "1.fc1", "1.fc2", "2.1"}) add_weight_and_bias(names, ldp_name(block, part));
  }
  return names;
}

// True where ffn_up and ffn_down carry each other's names, a mistake of 2023 that stayed in public files.
// Differs from llama.cpp (tools/mtmd/clip.cpp, is_ffn_swapped) for n_ff == n_embd: there it always swaps.
bool is_ffn_swapped(const VisionConfig& config, const TensorReader& reader, int64_t layer) {
  if (config.n_ff == config.n_embd) return config.is_square_ffn_swapped;
  const std::vector<int64_t> swapped = {config.n_embd, config.n_ff};
  return reader.squeezed_shape(block_name(layer, "ffn_up.weight")) == swapped;
}

Linear read_qkv(const VisionConfig& config, const TensorReader& reader, LayerNormWeights& ln1, int64_t layer) {
  const std::vector<std::string> prefixes = {block_name(layer, "attn_q"), block_name(layer, "attn_k"),
                                             block_name(layer, "attn_v")};
  Linear qkv = reader.linear_after(ln1, prefixes, config.n_embd, config.n_embd, Groups::WIDE_WHERE_ALLOWED);
  // A key's bias adds the same to all scores of a query, and softmax ignores that; in int8 it would cost resolution.
  std::fill_n(qkv.bias.data() + config.n_embd, config.n_embd, 0.0f);
  return qkv;
}

BlockWeights read_block(const VisionConfig& config, const TensorReader& reader, int64_t layer) {
  const int64_t n_embd = config.n_embd;
  std::pair<std::string, std::string> up_down = {"ffn_up", "ffn_down"};
  if (is_ffn_swapped(config, reader, layer)) std::swap(up_down.first, up_down.second);
  BlockWeights weights;
  weights.ln1 = reader.layer_norm(block_name(layer, "ln1"), n_embd);
  weights.ln2 = reader.layer_norm(block_name(layer, "ln2"), n_embd);
  weights.attn_qkv = read_qkv(config, reader, weights.ln1, layer);
  weights.attn_out = reader.linear(block_name(layer, "attn_out"), n_embd, n_embd, true);
  weights.ffn_up = reader.linear_after(weights.ln2, {block_name(layer, up_down.first)}, config.n_ff, n_embd,
                                       Groups::WIDE_WHERE_ALLOWED);
  weights.ffn_down = reader.linear(block_name(layer, up_down.second), n_embd, config.n_ff, true);
  return weights;
}

// Length of a bias: the width of a layer, which no metadata contains.
int64_t bias_size(const TensorReader& reader, const std::string& name) {
  // One channel leaves no dimension larger than 1.
  const int64_t size = reader.squeezed_shape(name).empty() ? 1 : reader.dimension(name, 1, 0);
  check_width(name, size);
  return size;
}

MbBlockWeights read_mb_block(const TensorReader& reader, int64_t block, int64_t n_channels) {
  const auto name = [&](const char* part) { return ldp_name(block, part); };
  const int64_t n_squeezed = bias_size(reader, name("1.fc1.bias"));
  return {
      .depthwise = reader.depthwise(name("0.0.weight"), n_channels),
      .depthwise_ln = reader.layer_norm(name("0.1"), n_channels),
      .squeeze = reader.linear(name("1.fc1"), n_squeezed, n_channels, true),
      .excite = reader.linear(name("1.fc2"), n_channels, n_squeezed, true),
      .pointwise = reader.linear(name("2.0"), n_channels, n_channels, false),
      .pointwise_ln = reader.layer_norm(name("2.1"), n_channels),
  };
}

}  // namespace

void add_weight_and_bias(std::vector<std::string>& names, const std::string& prefix) {
  names.push_back(prefix + ".weight");
  names.push_back(prefix + ".bias");
}

std::vector<std::string> clip_names(const VisionConfig& config) {
  std::vector<std::string> names = {"v.class_embd", "v.patch_embd.weight", "v.position_embd.weight"};
  add_weight_and_bias(names, "v.pre_ln");
  for (int64_t layer = 0; layer < config.n_layer; ++layer) {
    for (const char* part : {"ln1", "attn_q", "attn_k", "attn_v", "attn_out", "ln2", "ffn_up", "ffn_down"}) {
      add_weight_and_bias(names, block_name(layer, part));
    }
  }
  return names;
}

void check_names(const VisionConfig& config, const TensorMap& tensors) {
  std::vector<std::string> names = tower_names(config);
  for (std::string& name : projector_names(config)) names.push_back(std::move(name));
  std::string missing;
  int64_t n_missing = 0;
  constexpr int64_t N_LISTED = 20;  // the rest are only counted
  for (const std::string& name : names) {
    if (tensors.contains(name)) continue;
    if (n_missing++ < N_LISTED) missing += (missing.empty() ? "" : ", ") + name;
  }
  if (n_missing == 0) return;
  if (n_missing > N_LISTED) missing += " and " + std::to_string(n_missing - N_LISTED) + " more";
  throw FormatError("tensors: expected " + std::to_string(names.size()) + ", got " +
                    std::to_string(static_cast<int64_t>(names.size()) - n_missing) + ", without " + missing +
                    "; convert the checkpoint again");
}

ClipWeights read_clip(const VisionConfig& config, const TensorReader& reader) {
  const int64_t n_embd = config.n_embd;
  ClipWeights weights{
      .patch_embd = reader.linear("v.patch_embd", n_embd, 3 * config.patch_size * config.patch_size, false),
      .class_row = Buffer(n_embd),
      .patch_positions = Buffer(config.n_patches() * n_embd),
      .pre_ln = reader.layer_norm("v.pre_ln", n_embd),
      .blocks = {},
  };
  const Buffer class_embd = reader.values("v.class_embd", {n_embd});
  const Buffer positions = reader.values("v.position_embd.weight", {config.n_tokens(), n_embd});
  // In the file the class token's position comes first.
  std::copy_n(positions.data() + n_embd, weights.patch_positions.size(), weights.patch_positions.data());
  const KernelTable& kernels = reader.kernels();
  kernels.add(weights.class_row.data(), class_embd.data(), positions.data(), n_embd);
  kernels.layer_norm(weights.class_row.data(), weights.class_row.data(), weights.pre_ln.weight.data(),
                     weights.pre_ln.bias.data(), 1, n_embd, config.eps);
  weights.blocks.reserve(config.n_layer);
  for (int64_t layer = 0; layer < config.n_layer; ++layer) weights.blocks.push_back(read_block(config, reader, layer));
  return weights;
}

ProjectorWeights read_projector(const VisionConfig& config, const TensorReader& reader) {
  ProjectorWeights weights;
  weights.n_embd = config.n_embd;
  for (int64_t i = 0; i < n_mlp_layers(config); ++i) {
    const int64_t n_out = bias_size(reader, mlp_name(config, i) + ".bias");
    weights.mlp.push_back(reader.linear(mlp_name(config, i), n_out, weights.n_embd, true));
    weights.n_embd = n_out;
  }
  for (int64_t block = 1; config.projector == ProjectorKind::LDP && block <= 2; ++block) {
    weights.mb_blocks.push_back(read_mb_block(reader, block, weights.n_embd));
  }
  if (config.projector == ProjectorKind::LDPV2) {
    weights.peg_weight = reader.depthwise("mm.model.peg.0.weight", weights.n_embd);
    weights.peg_bias = reader.values("mm.model.peg.0.bias", {weights.n_embd});
  }
  return weights;
}

}  // namespace palo
