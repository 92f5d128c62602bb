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
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "peaks.h"
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

// Tensors of random values. All of a kind share one memory, most from a place of their own; the encoder packs
// copies.
class Weights {
 public:
  enum class Outliers {
    NONE,
    RESIDUAL,  // in what the layers begin with
    NORMS      // after every norm; the columns after them take it back, so that the model stays the same
  };

  explicit Weights(Outliers outliers = Outliers::NONE) {
    fill(matrix_, 0.0f, 1.0f / 32);
    fill(wide_matrix_, 0.0f, 1.0f / 64);
    fill(embedding_, 0.0f, 0.1f);
    fill(norm_, 1.0f, 0.1f);
    fill(bias_, 0.0f, 0.1f);
    if (outliers == Outliers::RESIDUAL) scale_columns(embedding_, CONFIG.n_embd, SIZE);
    if (outliers != Outliers::NORMS) return;
    scale_columns(norm_, CONFIG.n_ff, SIZE);
    scale_columns(matrix_, CONFIG.n_embd, 1 / SIZE);
    scale_columns(wide_matrix_, CONFIG.n_ff, 1 / SIZE);
  }

  TensorMap tensors() const {
    TensorMap map;
    for (const std::string& name : tower_names(CONFIG)) map[name] = tensor(name);
    for (const char* name : {"mm.0.weight", "mm.0.bias", "mm.2.weight", "mm.2.bias"}) map[name] = tensor(name);
    return map;
  }

 private:
  static void fill(std::vector<ggml_fp16_t>& values, float mean, float size) {
    std::mt19937 random(0);
    std::normal_distribution<float> normal(mean, size);
    for (ggml_fp16_t& value : values) value = ggml_fp32_to_fp16(normal(random));
  }

  static void scale_columns(std::vector<ggml_fp16_t>& values, int64_t n_cols, float scale) {
    for (size_t row = 0; row < values.size(); row += static_cast<size_t>(n_cols)) {
      for (const size_t channel : {3, 100, 101, 333, 700, 2222}) {
        if (channel >= static_cast<size_t>(n_cols)) continue;
        ggml_fp16_t& value = values[row + channel];
        value = ggml_fp32_to_fp16(scale * ggml_fp16_to_fp32(value));
      }
    }
  }

  RawTensor tensor(const std::string& name) const {
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    const size_t place = std::hash<std::string>()(name) % (N_PLACES / CONFIG.n_ff) * CONFIG.n_ff;
    const int64_t n_embd = CONFIG.n_embd, n_ff = CONFIG.n_ff;
    if (name == "v.cls") return raw(embedding_, 0, {n_embd});
    if (name == "v.pos") return raw(embedding_, n_embd, {CONFIG.n_patches(), n_embd});
    if (name == "v.query") return raw(embedding_, 512 * n_embd, {CONFIG.n_query, n_embd});
    if (has("ln") && !has(".bias")) return raw(norm_, 0, {has("ffn_ln") ? n_ff : n_embd});
    if (has(".bias")) return raw(bias_, place, {has("mm.") ? N_OUT : has("ffn_up") || has("ffn_ln") ? n_ff : n_embd});
    if (name == "v.patch.weight") return raw(matrix_, place, {n_embd, 3, CONFIG.patch_size, CONFIG.patch_size});
    if (name == "mm.0.weight") return raw(matrix_, place, {N_OUT, n_embd});
    if (name == "mm.2.weight") return raw(wide_matrix_, place, {N_OUT, N_OUT});
    if (has("ffn_down")) return raw(wide_matrix_, place, {n_embd, n_ff});
    return raw(matrix_, place, {has("ffn_up") ? n_ff : n_embd, n_embd});
  }

  static RawTensor raw(const std::vector<ggml_fp16_t>& values, size_t place, const std::vector<int64_t>& shape) {
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    return {.type = GGML_TYPE_F16,
            .shape = shape,
            .data = reinterpret_cast<const std::byte*>(values.data() + place),
            .n_bytes = static_cast<size_t>(n) * sizeof(ggml_fp16_t)};
  }

  static constexpr float SIZE = 30.0f;
  static constexpr size_t N_PLACES = 1 << 20;
  std::vector<ggml_fp16_t> matrix_ = std::vector<ggml_fp16_t>(4096 * 1024 + N_PLACES),
                           wide_matrix_ = std::vector<ggml_fp16_t>(4096 * 4096 + N_PLACES),
                           embedding_ = std::vector<ggml_fp16_t>(1024 * 1024), norm_ = std::vector<ggml_fp16_t>(4096),
                           bias_ = std::vector<ggml_fp16_t>(4096 + N_PLACES);
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
  const TensorMap tensors = weights.tensors();
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
    using enum Weights::Outliers;
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
