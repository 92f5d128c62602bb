// A small vision model of each tower and projector, and hostile ones.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "check.h"
#include "vision_models.h"

namespace {

using palo::FormatError;
using palo_test::Beit3Model;
using palo_test::ClipModel;
using palo_test::encode;
using palo_test::Model;
using palo_test::ProjectorKind;
using palo_test::VisionConfig;
using palo_test::VisionEncoder;

// Equal bits for any number of threads, and in a batch.
void check_threads_and_batch(const Model& model, palo::Precision precision) {
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

TEST(every_projector_and_grid_gives_finite_equal_results_for_any_threads_and_batch) {
  for (const auto projector : {ProjectorKind::IDENTITY, ProjectorKind::MLP, ProjectorKind::LDP, ProjectorKind::LDPV2}) {
    for (const int64_t grid : {2, 3, 5}) {
      for (const auto precision : {palo::Precision::FLOAT, palo::Precision::INT8}) {
        check_threads_and_batch(ClipModel(projector, grid), precision);
      }
    }
  }
}

TEST(beit3_gives_finite_equal_results_for_any_threads_and_batch) {
  for (const auto precision : {palo::Precision::FLOAT, palo::Precision::INT8}) {
    for (const int64_t n_query : {1, 9}) check_threads_and_batch(Beit3Model(3, n_query), precision);
    Beit3Model outliers(2, 5);  // in the middle of an image's rows, of both sets
    for (const char* name : {"v.blk.0.a.ffn_ln.bias", "v.blk.0.b.attn_ln.bias"}) outliers.enlarge(name, 7);
    check_threads_and_batch(outliers, precision);
  }
}

TEST(beit3_shows_its_residual_stream) {
  const Beit3Model model(3, 5);
  const auto encoder = model.load();
  const std::vector<float> pixels = model.pixels();
  std::vector<float> stream(encoder->config().n_tokens() * encoder->config().n_embd);
  encoder->residual_stream(stream.data(), pixels.data(), 1, 0);
  const auto* queries = reinterpret_cast<const float*>(model.tensors.at("v.query").data);
  CHECK(std::equal(stream.end() - 5 * 32, stream.end(), queries));
  CHECK(
      std::equal(stream.begin(), stream.begin() + 32, reinterpret_cast<const float*>(model.tensors.at("v.cls").data)));
  encoder->residual_stream(stream.data(), pixels.data(), 1, 1);
  for (const float value : stream) CHECK(std::isfinite(value));
  for (const int64_t n_run : {-1, 2, 3}) {
    CHECK_THROWS(encoder->residual_stream(stream.data(), pixels.data(), 1, n_run), std::invalid_argument, "n_run");
  }
}

TEST(every_weight_type_loads) {
  for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0}) {
    const ClipModel model(ProjectorKind::MLP, 2, type);
    for (const float value : encode(*model.load(), model.pixels())) CHECK(std::isfinite(value));
    const Beit3Model beit3(2, 3, type);
    for (const float value : encode(*beit3.load(), beit3.pixels())) CHECK(std::isfinite(value));
  }
}

TEST(threads_share_an_encoder) {
  const ClipModel model(ProjectorKind::LDP, 3);
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
      ClipModel model(ProjectorKind::LDP, 2);
      model.config.*field = value;
      CHECK_THROWS(model.load(), FormatError, "expected");
    }
  }
  for (const float eps : {0.0f, -1.0f, 1.0f, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    ClipModel model(ProjectorKind::LDP, 2);
    model.config.eps = eps;
    CHECK_THROWS(model.load(), FormatError, "layer_norm_epsilon");
  }
  for (const int64_t n_layer : {int64_t{-1}, int64_t{3}, std::numeric_limits<int64_t>::max()}) {
    ClipModel model(ProjectorKind::LDP, 2);
    model.config.n_layer = n_layer;
    CHECK_THROWS(model.load(), FormatError, "expected");
  }
}

TEST(hostile_sizes_of_beit3_are_errors) {
  constexpr int64_t HOSTILE[] = {-1, 0, 7, int64_t{1} << 62, std::numeric_limits<int64_t>::max()};
  constexpr int64_t VisionConfig::* FIELDS[] = {&VisionConfig::image_size, &VisionConfig::n_embd, &VisionConfig::n_ff,
                                                &VisionConfig::n_layer, &VisionConfig::n_query};
  for (const auto field : FIELDS) {
    for (const int64_t value : HOSTILE) {
      Beit3Model model(2, 3);
      model.config.*field = value;
      if (field == &VisionConfig::n_layer && value == 0) {
        CHECK(model.load() != nullptr);  // a projector alone
      } else {
        CHECK_THROWS(model.load(), FormatError, "expected");
      }
    }
  }
  for (const auto projector : {ProjectorKind::LDP, ProjectorKind::LDPV2}) {
    Beit3Model model(2, 3);
    model.config.projector = projector;
    CHECK_THROWS(model.load(), FormatError, "projector of BEiT-3");
  }
  ClipModel clip(ProjectorKind::MLP, 2);
  clip.config.n_query = 1;
  CHECK_THROWS(clip.load(), FormatError, "query_count");
}

void check_missing_tensors(const Model& whole) {
  for (const auto& [name, tensor] : whole.tensors) {
    palo::TensorMap tensors = whole.tensors;
    tensors.erase(name);
    CHECK_THROWS(VisionEncoder(whole.config, tensors, Model::options(2)), FormatError, name);
  }
}

TEST(every_missing_tensor_is_named) {
  check_missing_tensors(ClipModel(ProjectorKind::LDP, 2));
  check_missing_tensors(Beit3Model(2, 3));
}

void check_bad_tensors(const Model& whole) {
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
      palo::TensorMap tensors = whole.tensors;
      tensors[name] = bad;
      CHECK_THROWS(VisionEncoder(whole.config, tensors, Model::options(2)), FormatError, "expected");
    }
  }
}

TEST(every_tensor_of_wrong_shape_type_size_or_value_is_an_error) {
  check_bad_tensors(ClipModel(ProjectorKind::LDP, 2));
  check_bad_tensors(Beit3Model(2, 3));
}

TEST(unaligned_blocks_load) {
  const ClipModel model(ProjectorKind::MLP, 2, GGML_TYPE_F16);
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
