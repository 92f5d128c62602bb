// An image through VisCPM's eye in its published sizes, on random weights, beside the peak of int8 products on this
// machine:
//   build/benchmark/palo_cpp_beit3_encode [N_THREADS [int8|float]]
//   build/benchmark/palo_cpp_beit3_encode fidelity      int8 beside float, with and without outlier channels
// Where other programs run, the processor's time is what to look at, with one thread: waiting threads count too.
// PALO_CPP_ISA forces an instruction set.
#include <ggml.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "peaks/multiply_peaks.h"
#include "vision/vision_encoder.h"

namespace {

using namespace palo;

constexpr int64_t N_OUT = 4096, N_RUNS = 15;
constexpr VisionConfig CONFIG{.tower = TowerKind::BEIT3,
                              .image_size = 224,
                              .patch_size = 16,
                              .n_embd = 1024,
                              .n_head = 16,
                              .n_ff = 4096,
                              .n_layer = 24,
                              .n_query = 64,
                              .eps = 1e-5f,
                              .use_gelu = true,
                              .projector = ProjectorKind::MLP,
                              .n_projector_layers = 2};

enum class OutlierPlace {
  NONE,
  RESIDUAL,  // in what the layers begin with
  NORMS      // after every norm; the columns after them take it back, so that the model stays the same
};

// Tensors of random values, f16, each in memory of its own.
class Weights {
 public:
  explicit Weights(OutlierPlace outliers = OutlierPlace::NONE) : outliers_(outliers) {
    for (const std::string& name : tower_names(CONFIG)) add(name);
    for (const char* name : {"mm.0.weight", "mm.0.bias", "mm.2.weight", "mm.2.bias"}) add(name);
  }

  const TensorMap& tensors() const { return tensors_; }

 private:
  void add(const std::string& name) {
    const std::vector<int64_t> shape = shape_of(name);
    int64_t n_rows = shape.front(), n_cols = 1;
    for (size_t i = 1; i < shape.size(); ++i) n_cols *= shape[i];
    const bool is_vector = shape.size() == 1, is_embedding = name == "v.cls" || name == "v.pos" || name == "v.query";
    const bool is_norm = is_vector && name.find("ln") != std::string::npos && name.ends_with(".weight");
    const float size = is_vector || is_embedding ? 0.1f : 1.0f / std::sqrt(static_cast<float>(n_cols));
    if (is_vector) std::swap(n_rows, n_cols);
    std::vector<ggml_fp16_t>& values = memory_.emplace_back(n_rows * n_cols);
    std::normal_distribution<float> normal(is_norm ? 1.0f : 0.0f, size);
    const float scale = outlier_scale(is_embedding, is_norm, is_vector || shape.size() > 2);
    for (int64_t i = 0; i < n_rows * n_cols; ++i) {
      values[i] = ggml_fp32_to_fp16((is_outlier(i % n_cols) ? scale : 1.0f) * normal(random_));
    }
    tensors_[name] = {.type = GGML_TYPE_F16,
                      .shape = shape,
                      .data = reinterpret_cast<const std::byte*>(values.data()),
                      .n_bytes = values.size() * sizeof(ggml_fp16_t)};
  }

  float outlier_scale(bool is_embedding, bool is_norm, bool is_other) const {
    constexpr float SIZE = 30.0f;
    if (outliers_ == OutlierPlace::RESIDUAL) return is_embedding ? SIZE : 1.0f;
    if (outliers_ == OutlierPlace::NONE || is_embedding) return 1.0f;
    return is_norm ? SIZE : is_other ? 1.0f : 1.0f / SIZE;
  }

  static bool is_outlier(int64_t channel) {
    constexpr int64_t CHANNELS[] = {3, 100, 101, 333, 700, 2222};
    return std::find(std::begin(CHANNELS), std::end(CHANNELS), channel) != std::end(CHANNELS);
  }

  static std::vector<int64_t> shape_of(const std::string& name) {
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    const int64_t n_embd = CONFIG.n_embd, n_ff = CONFIG.n_ff;
    if (name == "v.cls") return {n_embd};
    if (name == "v.pos") return {CONFIG.n_patches(), n_embd};
    if (name == "v.query") return {CONFIG.n_query, n_embd};
    if (has(".bias")) return {has("mm.") ? N_OUT : has("ffn_up") || has("ffn_ln") ? n_ff : n_embd};
    if (has("ln")) return {has("ffn_ln") ? n_ff : n_embd};
    if (name == "v.patch.weight") return {n_embd, 3, CONFIG.patch_size, CONFIG.patch_size};
    if (has("mm.")) return {N_OUT, has("mm.0") ? n_embd : N_OUT};
    return {has("ffn_up") ? n_ff : n_embd, has("ffn_down") ? n_ff : n_embd};
  }

  OutlierPlace outliers_;
  std::minstd_rand random_{1};
  std::deque<std::vector<ggml_fp16_t>> memory_;
  TensorMap tensors_;
};

// Operations of the products that an image needs (a multiply-add is two): what the last layer leaves out is not
// counted.
double n_operations() {
  const auto n_embd = static_cast<double>(CONFIG.n_embd), n_ff = static_cast<double>(CONFIG.n_ff);
  const auto n_tokens = static_cast<double>(CONFIG.n_tokens()), n_query = static_cast<double>(CONFIG.n_query);
  const auto n_full = static_cast<double>(CONFIG.n_layer - 1), n_out = static_cast<double>(N_OUT);
  const double token = 4 * n_embd * n_embd + 2 * n_embd * n_ff, scores = 2 * n_tokens * n_embd;
  const double layers = n_full * n_tokens * (token + scores);
  const double last = n_query * (token + scores) + (n_tokens - n_query) * 2 * n_embd * n_embd;
  const double patches = static_cast<double>(CONFIG.n_patches() * 3 * CONFIG.patch_size * CONFIG.patch_size) * n_embd;
  return 2 * (layers + last + patches + n_query * (n_embd * n_out + n_out * n_out));
}

double processor_s() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

std::vector<float> draw_pixels(int64_t n_images) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> pixels(static_cast<size_t>(n_images * CONFIG.n_pixels()));
  std::generate(pixels.begin(), pixels.end(), [&] { return normal(random); });
  return pixels;
}

std::vector<float> encode(const VisionEncoder& encoder, const std::vector<float>& pixels) {
  const int64_t n_images = static_cast<int64_t>(pixels.size()) / CONFIG.n_pixels();
  std::vector<float> out(static_cast<size_t>(n_images * CONFIG.n_image_tokens() * encoder.n_embd()));
  encoder.encode(out.data(), pixels.data(), n_images);
  return out;
}

// The smallest cosine of an image embedding of four images, int8 beside float.
double smallest_cosine(const Weights& weights) {
  const TensorMap& tensors = weights.tensors();
  const std::vector<float> pixels = draw_pixels(4);
  const auto run = [&](Precision precision) {
    return encode(VisionEncoder(CONFIG, tensors, {.n_threads = 2, .precision = precision}), pixels);
  };
  const std::vector<float> got = run(Precision::INT8), expected = run(Precision::FLOAT);
  double smallest = 1.0;
  for (auto a = got.begin(), b = expected.begin(); a != got.end(); a += N_OUT, b += N_OUT) {
    const double product = std::inner_product(a, a + N_OUT, b, 0.0);
    const double norms = std::inner_product(a, a + N_OUT, a, 0.0) * std::inner_product(b, b + N_OUT, b, 0.0);
    smallest = std::min(smallest, product / std::sqrt(norms));
  }
  return smallest;
}

void measure(int n_threads, Precision precision) {
  const VisionEncoder encoder(CONFIG, Weights().tensors(), {.n_threads = n_threads, .precision = precision});
  const std::vector<float> pixels = draw_pixels(1);
  std::vector<double> wall_s, used_s;
  double peak = 0.0;
  for (int64_t i = 0; i < N_RUNS; ++i) {
    const double processor = processor_s();
    const auto start = std::chrono::steady_clock::now();
    encode(encoder, pixels);
    wall_s.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    used_s.push_back(processor_s() - processor);
    if (i % 5 > 0) continue;
    peak = std::max(peak, precision == Precision::INT8 ? peak_int8(encoder.isa()) : peak_f32(encoder.isa()));
  }
  const double n = n_operations();
  std::printf("%s, threads: %d, %.1f G operations an image, peak of a core: %.1f G/s\n", encoder.isa(), n_threads,
              n / 1e9, peak / 1e9);
  const auto print = [&](const char* name, std::vector<double>& seconds, int n_cores) {
    std::sort(seconds.begin(), seconds.end());
    const double best_s = seconds.front(), median_s = seconds[N_RUNS / 2], peak_s = n / peak / n_cores;
    std::printf("%-17s best %7.1f ms: %.3f of the peak; median %7.1f ms: %.3f\n", name, 1e3 * best_s, peak_s / best_s,
                1e3 * median_s, peak_s / median_s);
  };
  print("time", wall_s, n_threads);
  print("processor's time", used_s, 1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "fidelity") == 0) {
    using enum OutlierPlace;
    for (const auto& [name, outliers] : {std::pair{"no outlier channels", NONE},
                                         {"outliers in the residual stream", RESIDUAL},
                                         {"outliers after the norms", NORMS}}) {
      std::printf("%s: smallest cosine of an image embedding %.5f\n", name, smallest_cosine(Weights(outliers)));
    }
    return 0;
  }
  const int n_threads = argc > 1 ? std::atoi(argv[1]) : 1;
  measure(n_threads, argc > 2 && std::strcmp(argv[2], "float") == 0 ? Precision::FLOAT : Precision::INT8);
}
