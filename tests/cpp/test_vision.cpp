// A small vision model of each projector, and hostile ones.
#include <ggml.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <thread>

#include "check.h"
#include "vision/vision_encoder.h"

namespace {

using palo::FormatError;
using palo::ProjectorKind;
using palo::VisionConfig;
using palo::VisionEncoder;

// Tensors of a model, each in memory of exactly its size.
class Model {
 public:
  Model(ProjectorKind projector, int64_t grid, ggml_type type = GGML_TYPE_F32) : type_(type) {
    config = {.image_size = grid * 4,
              .patch_size = 4,
              .n_embd = 32,
              .n_head = 2,
              .n_ff = 64,
              .n_layer = 2,
              .eps = 1e-5f,
              .projector = projector,
              .n_projector_layers = 2};
    add_tower();
    if (projector == ProjectorKind::MLP) add_mlp({"mm.0", "mm.2"});
    if (projector == ProjectorKind::LDP) add_ldp();
    if (projector == ProjectorKind::LDPV2) {
      add_mlp({"mm.model.mlp.0", "mm.model.mlp.2"});
      add("mm.model.peg.0.weight", {N_OUT, 1, 3, 3});
      add("mm.model.peg.0.bias", {N_OUT});
    }
  }

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

  VisionConfig config;
  palo::TensorMap tensors;

 private:
  static constexpr int64_t N_OUT = 64;

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

  void add_mlp(const std::vector<std::string>& prefixes) {
    for (size_t i = 0; i < prefixes.size(); ++i) add_linear(prefixes[i], N_OUT, i == 0 ? config.n_embd : N_OUT);
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

  ggml_type type_;
  std::vector<std::unique_ptr<std::byte[]>> memory_;
  mutable std::mt19937 random_{0};
  mutable std::normal_distribution<float> normal_;
};

std::vector<float> encode(const VisionEncoder& encoder, const std::vector<float>& pixels, int64_t n_images = 1) {
  std::vector<float> result(n_images * encoder.config().n_image_tokens() * encoder.n_embd());
  encoder.encode(result.data(), pixels.data(), n_images);
  return result;
}

TEST(every_projector_and_grid_gives_finite_equal_results_for_any_threads_and_batch) {
  for (const auto projector : {ProjectorKind::IDENTITY, ProjectorKind::MLP, ProjectorKind::LDP, ProjectorKind::LDPV2}) {
    for (const int64_t grid : {2, 3, 5}) {
      for (const auto precision : {palo::Precision::FLOAT, palo::Precision::INT8}) {
        const Model model(projector, grid);
        const std::vector<float> pixels = model.pixels();
        const std::vector<float> expected = encode(*model.load(1, precision), pixels);
        for (const float value : expected) CHECK(std::isfinite(value));
        for (const int n_threads : {2, 7}) CHECK(encode(*model.load(n_threads, precision), pixels) == expected);

        constexpr int64_t N_IMAGES = 6;  // more than go through the tower together
        std::vector<float> batch;
        for (int64_t i = 0; i < N_IMAGES; ++i) batch.insert(batch.end(), pixels.begin(), pixels.end());
        const std::vector<float> results = encode(*model.load(2, precision), batch, N_IMAGES);
        for (size_t i = 0; i < results.size(); ++i) CHECK(results[i] == expected[i % expected.size()]);
      }
    }
  }
}

TEST(every_weight_type_loads) {
  for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0}) {
    const Model model(ProjectorKind::MLP, 2, type);
    for (const float value : encode(*model.load(), model.pixels())) CHECK(std::isfinite(value));
  }
}

TEST(threads_share_an_encoder) {
  const Model model(ProjectorKind::LDP, 3);
  const auto encoder = model.load(2);
  const std::vector<float> pixels = model.pixels(), expected = encode(*encoder, pixels);
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 3; ++i) result = encode(*encoder, pixels);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) CHECK(result == expected);
}

TEST(hostile_sizes_are_errors) {
  constexpr int64_t HOSTILE[] = {std::numeric_limits<int64_t>::min(), -1, 0, 3, int64_t{1} << 31, int64_t{1} << 62,
                                 std::numeric_limits<int64_t>::max()};
  constexpr int64_t VisionConfig::* FIELDS[] = {&VisionConfig::image_size, &VisionConfig::patch_size,
                                                &VisionConfig::n_embd, &VisionConfig::n_head, &VisionConfig::n_ff};
  for (const auto field : FIELDS) {
    for (const int64_t value : HOSTILE) {
      Model model(ProjectorKind::LDP, 2);
      model.config.*field = value;
      CHECK_THROWS(model.load(), FormatError, "expected");
    }
  }
  for (const float eps : {0.0f, -1.0f, 1.0f, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    Model model(ProjectorKind::LDP, 2);
    model.config.eps = eps;
    CHECK_THROWS(model.load(), FormatError, "layer_norm_epsilon");
  }
  for (const int64_t n_layer : {int64_t{-1}, int64_t{3}, std::numeric_limits<int64_t>::max()}) {
    Model model(ProjectorKind::LDP, 2);
    model.config.n_layer = n_layer;
    CHECK_THROWS(model.load(), FormatError, "expected");
  }
}

TEST(every_missing_tensor_is_named) {
  const Model whole(ProjectorKind::LDP, 2);
  for (const auto& [name, tensor] : whole.tensors) {
    Model model(ProjectorKind::LDP, 2);
    model.tensors.erase(name);
    CHECK_THROWS(model.load(), FormatError, name);
  }
}

TEST(every_tensor_of_wrong_shape_type_size_or_value_is_an_error) {
  const Model whole(ProjectorKind::LDP, 2);
  const float nan = std::nanf("");
  for (const auto& [name, tensor] : whole.tensors) {
    std::vector<palo::RawTensor> hostile(8, tensor);
    hostile[0].shape.front() += 1;
    hostile[1].shape = {int64_t{1} << 62, int64_t{1} << 62};
    hostile[2].shape = {-1};
    hostile[3].shape = {0};
    hostile[4].type = GGML_TYPE_Q8_0;
    hostile[5].type = 9999;
    hostile[6].n_bytes -= 1;
    std::vector<std::byte> values(tensor.data, tensor.data + tensor.n_bytes);
    std::memcpy(values.data() + values.size() - sizeof(nan), &nan, sizeof(nan));
    hostile[7].data = values.data();
    for (const palo::RawTensor& bad : hostile) {
      Model model(ProjectorKind::LDP, 2);
      model.tensors[name] = bad;
      CHECK_THROWS(model.load(), FormatError, "expected");
    }
  }
}

TEST(unaligned_blocks_load) {
  const Model model(ProjectorKind::MLP, 2, GGML_TYPE_F16);
  palo::TensorMap tensors = model.tensors;
  std::vector<std::vector<std::byte>> memory;
  for (auto& [name, tensor] : tensors) {
    memory.emplace_back(tensor.n_bytes + 1);
    std::memcpy(memory.back().data() + 1, tensor.data, tensor.n_bytes);
    tensor.data = memory.back().data() + 1;
  }
  const VisionEncoder encoder(model.config, tensors, Model::options(1));
  const std::vector<float> pixels = model.pixels();
  CHECK(encode(encoder, pixels) == encode(*model.load(), pixels));
}

}  // namespace
