// Small random models of each tower, as an encoder is given them.
#pragma once

#include <ggml.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "vision/vision_encoder.h"

namespace palo_test {

using palo::ProjectorKind;
using palo::VisionConfig;
using palo::VisionEncoder;

// Tensors of a model, each in memory of exactly its size.
class Model {
 public:
  std::unique_ptr<VisionEncoder> load(int n_threads = 2, palo::Precision precision = palo::Precision::INT8) const {
    return std::make_unique<VisionEncoder>(config, tensors, options(n_threads, precision));
  }

  static palo::EncoderOptions options(int n_threads, palo::Precision precision = palo::Precision::INT8) {
    return {.n_threads = n_threads, .precision = precision};
  }

  std::vector<float> pixels() const {
    std::vector<float> result(3 * config.image_size * config.image_size);
    for (float& value : result) value = normal_(random_);
    return result;
  }

  // Makes one value of an f32 tensor so large that its channel is an outlier.
  void enlarge(const std::string& name, size_t i) {
    std::byte* data = const_cast<std::byte*>(tensors.at(name).data);
    reinterpret_cast<float*>(data)[i] = 100.0f;
  }

  VisionConfig config;
  palo::TensorMap tensors;

 protected:
  static constexpr int64_t N_OUT = 64;

  Model(const VisionConfig& of_config, ggml_type type) : config(of_config), type_(type) {}

  void add_mlp(const std::vector<std::string>& prefixes) {
    for (size_t i = 0; i < prefixes.size(); ++i) add_linear(prefixes[i], N_OUT, i == 0 ? config.n_embd : N_OUT);
  }

  void add_linear(const std::string& prefix, int64_t n_out, int64_t n_in) {
    add(prefix + ".weight", {n_out, n_in});
    add(prefix + ".bias", {n_out});
  }

  void add_norm(const std::string& prefix, int64_t n) {
    add(prefix + ".weight", {n});
    add(prefix + ".bias", {n});
  }

  void add(const std::string& name, const std::vector<int64_t>& shape) {
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    std::vector<float> values(n);
    for (float& value : values) value = 0.2f * normal_(random_);
    const bool has_blocks = shape.size() == 2 && shape[1] % ggml_blck_size(type_) == 0;
    const ggml_type type = has_blocks ? type_ : GGML_TYPE_F32;
    const size_t n_bytes = n / ggml_blck_size(type) * ggml_type_size(type);
    auto data = std::make_unique<std::byte[]>(n_bytes);
    if (type == GGML_TYPE_F32) {
      std::memcpy(data.get(), values.data(), n_bytes);
    } else {
      ggml_quantize_chunk(type, values.data(), data.get(), 0, shape[0], shape[1], nullptr);
    }
    tensors[name] = {.type = type, .shape = shape, .data = data.get(), .n_bytes = n_bytes};
    memory_.push_back(std::move(data));
  }

 private:
  ggml_type type_;
  std::vector<std::unique_ptr<std::byte[]>> memory_;
  mutable std::mt19937 random_{0};
  mutable std::normal_distribution<float> normal_;
};

// CLIP and a projector.
class ClipModel : public Model {
 public:
  ClipModel(ProjectorKind projector, int64_t grid, ggml_type type = GGML_TYPE_F32)
      : Model({.image_size = grid * 4,
               .patch_size = 4,
               .n_embd = 32,
               .n_head = 2,
               .n_ff = 64,
               .n_layer = 2,
               .eps = 1e-5f,
               .projector = projector,
               .n_projector_layers = 2},
              type) {
    add_tower();
    if (projector == ProjectorKind::MLP) add_mlp({"mm.0", "mm.2"});
    if (projector == ProjectorKind::LDP) add_ldp();
    if (projector == ProjectorKind::LDPV2) {
      add_mlp({"mm.model.mlp.0", "mm.model.mlp.2"});
      add("mm.model.peg.0.weight", {N_OUT, 1, 3, 3});
      add("mm.model.peg.0.bias", {N_OUT});
    }
  }

 private:
  void add_tower() {
    add("v.class_embd", {config.n_embd});
    add("v.patch_embd.weight", {config.n_embd, 3, 4, 4});
    add("v.position_embd.weight", {config.n_tokens(), config.n_embd});
    add_norm("v.pre_ln", config.n_embd);
    for (int64_t layer = 0; layer < config.n_layer; ++layer) {
      const std::string block = "v.blk." + std::to_string(layer) + ".";
      for (const char* part : {"attn_q", "attn_k", "attn_v", "attn_out"}) {
        add_linear(block + part, config.n_embd, config.n_embd);
      }
      add_norm(block + "ln1", config.n_embd);
      add_norm(block + "ln2", config.n_embd);
      add_linear(block + "ffn_up", config.n_ff, config.n_embd);
      add_linear(block + "ffn_down", config.n_embd, config.n_ff);
    }
  }

  void add_ldp() {
    add_mlp({"mm.model.mlp.1", "mm.model.mlp.3"});
    for (const char* number : {"1", "2"}) {
      const std::string block = std::string("mm.model.mb_block.") + number + ".block.";
      add(block + "0.0.weight", {N_OUT, 1, 3, 3});
      add_norm(block + "0.1", N_OUT);
      add_linear(block + "1.fc1", 32, N_OUT);
      add_linear(block + "1.fc2", N_OUT, 32);
      add(block + "2.0.weight", {N_OUT, N_OUT});
      add_norm(block + "2.1", N_OUT);
    }
  }
};

// BEiT-3 with queries and a mapping; the last layer's image tokens have keys and values only.
class Beit3Model : public Model {
 public:
  Beit3Model(int64_t grid, int64_t n_query, ggml_type type = GGML_TYPE_F32)
      : Model({.tower = palo::TowerKind::BEIT3,
               .image_size = grid * 4,
               .patch_size = 4,
               .n_embd = 32,
               .n_head = 2,
               .n_ff = 96,
               .n_layer = 2,
               .n_query = n_query,
               .eps = 1e-5f,
               .use_gelu = true,
               .projector = ProjectorKind::MLP,
               .n_projector_layers = 2},
              type) {
    add("v.cls", {config.n_embd});
    add("v.pos", {config.n_patches(), config.n_embd});
    add("v.query", {n_query, config.n_embd});
    add("v.patch.weight", {config.n_embd, 3, 4, 4});
    add("v.patch.bias", {config.n_embd});
    for (const char* block : {"v.blk.0.a.", "v.blk.0.b.", "v.blk.1.b."}) add_block(block);
    add_norm("v.blk.1.a.ln1", config.n_embd);
    for (const char* part : {"attn_k", "attn_v"}) {
      add_linear(std::string("v.blk.1.a.") + part, config.n_embd, config.n_embd);
    }
    add_norm("v.post_ln.b", config.n_embd);
    add_mlp({"mm.0", "mm.2"});
  }

 private:
  void add_block(const std::string& block) {
    for (const char* part : {"attn_q", "attn_k", "attn_v", "attn_out"}) {
      add_linear(block + part, config.n_embd, config.n_embd);
    }
    for (const char* part : {"ln1", "attn_ln", "ln2"}) add_norm(block + part, config.n_embd);
    add_norm(block + "ffn_ln", config.n_ff);
    add_linear(block + "ffn_up", config.n_ff, config.n_embd);
    add_linear(block + "ffn_down", config.n_embd, config.n_ff);
  }
};

inline std::vector<float> encode(const VisionEncoder& encoder, const std::vector<float>& pixels, int64_t n_images = 1) {
  std::vector<float> result(n_images * encoder.config().n_image_tokens() * encoder.n_embd());
  encoder.encode(result.data(), pixels.data(), n_images);
  return result;
}

}  // namespace palo_test
