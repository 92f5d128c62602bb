// An image through VisCPM's eye in its published sizes, on random weights, beside the peak of int8 products on this
// machine: build/benchmark/palo_cpp_beit3_encode [N_THREADS [float]]
// Where other programs run, the processor's time is what to look at, with one thread: waiting threads count too.
// PALO_CPP_ISA forces an instruction set.
#include <ggml.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>
#include <string>
#include <tuple>
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

// Tensors of random values. All matrices share one memory: the encoder packs a copy of its own of each.
class Weights {
 public:
  Weights() : matrix_(4096 * 4096), norm_(4096), bias_(4096) {
    fill(matrix_, 0.0f, 1.0f / 32);
    fill(norm_, 1.0f, 0.1f);
    fill(bias_, 0.0f, 0.1f);
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

  RawTensor tensor(const std::string& name) const {
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    const bool is_bias = has(".bias");
    if (name == "v.cls") return raw(bias_, {CONFIG.n_embd});
    if (name == "v.pos") return raw(matrix_, {CONFIG.n_patches(), CONFIG.n_embd});
    if (name == "v.query") return raw(matrix_, {CONFIG.n_query, CONFIG.n_embd});
    if (has("mm.")) return is_bias ? raw(bias_, {N_OUT}) : raw(matrix_, {N_OUT, has("mm.0") ? CONFIG.n_embd : N_OUT});
    if (name == "v.patch.weight") return raw(matrix_, {CONFIG.n_embd, 3, CONFIG.patch_size, CONFIG.patch_size});
    if (has("ln")) return raw(is_bias ? bias_ : norm_, {has("ffn_ln") ? CONFIG.n_ff : CONFIG.n_embd});
    if (is_bias) return raw(bias_, {has("ffn_up") ? CONFIG.n_ff : CONFIG.n_embd});
    return raw(matrix_, {has("ffn_up") ? CONFIG.n_ff : CONFIG.n_embd, has("ffn_down") ? CONFIG.n_ff : CONFIG.n_embd});
  }

  static RawTensor raw(const std::vector<ggml_fp16_t>& values, const std::vector<int64_t>& shape) {
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    return {.type = GGML_TYPE_F16,
            .shape = shape,
            .data = reinterpret_cast<const std::byte*>(values.data()),
            .n_bytes = static_cast<size_t>(n) * sizeof(ggml_fp16_t)};
  }

  std::vector<ggml_fp16_t> matrix_, norm_, bias_;
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

}  // namespace

int main(int argc, char** argv) {
  const int n_threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const Precision precision = argc > 2 && std::strcmp(argv[2], "float") == 0 ? Precision::FLOAT : Precision::INT8;
  const VisionEncoder encoder(CONFIG, Weights().tensors(), {.n_threads = n_threads, .precision = precision});
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> pixels(static_cast<size_t>(CONFIG.n_pixels()));
  std::generate(pixels.begin(), pixels.end(), [&] { return normal(random); });
  std::vector<float> out(static_cast<size_t>(CONFIG.n_image_tokens() * encoder.n_embd()));

  std::vector<double> wall_s, used_s;
  double peak = 0.0;
  for (int64_t i = 0; i < N_RUNS; ++i) {
    const double processor = processor_s();
    const auto start = std::chrono::steady_clock::now();
    encoder.encode(out.data(), pixels.data(), 1);
    wall_s.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    used_s.push_back(processor_s() - processor);
    if (i % 5 == 0) {
      peak = std::max(peak, precision == Precision::INT8 ? peak_int8(encoder.isa()) : peak_f32(encoder.isa()));
    }
  }
  std::sort(wall_s.begin(), wall_s.end());
  std::sort(used_s.begin(), used_s.end());
  const double n = n_operations();
  std::printf("%s, threads: %d, %.1f G operations an image, peak of a core: %.1f G/s\n", encoder.isa(), n_threads,
              n / 1e9, peak / 1e9);
  for (const auto& [name, seconds, cores] :
       {std::tuple{"time", wall_s, n_threads}, std::tuple{"processor's time", used_s, 1}}) {
    std::printf("%-17s best %7.1f ms: %.3f of the peak; median %7.1f ms: %.3f\n", name, 1e3 * seconds.front(),
                n / seconds.front() / cores / peak, 1e3 * seconds[N_RUNS / 2], n / seconds[N_RUNS / 2] / cores / peak);
  }
}
