// Where the time of an image goes: the steps of ViT-L/14-336's layers, one after the other, on random weights:
//   build/benchmark/palo_cpp_encode_stages [N_THREADS [float]]
// PALO_CPP_ISA forces an instruction set.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention.h"
#include "kernels/linear.h"

namespace {

using namespace palo;

constexpr int64_t N_TOKENS = 577, N_EMBD = 1024, N_FF = 4096, N_HEAD = 16, N_LAYER = 23, N_RUNS = 20;

Buffer draw(int64_t n, float size) {
  static std::mt19937 random(0);
  std::normal_distribution<float> normal(0.0f, size);
  Buffer result(n);
  std::generate_n(result.data(), n, [&] { return normal(random); });
  return result;
}

Linear draw_linear(const KernelTable& kernels, Precision precision, int64_t n_out, int64_t n_in) {
  Linear linear{.precision = precision, .n_out = n_out, .n_in = n_in, .panels = {}, .bias = draw(n_out, 0.1f)};
  const Buffer weights = draw(n_out * n_in, 0.03f);
  linear.panels = ByteBuffer(linear.format(kernels).panels_bytes(n_out, n_in));
  linear.format(kernels).pack_panels(linear.panels.data(), weights.data(), n_out, n_in, n_in, 1);
  return linear;
}

// Around 1, as in `palo-cpp bench --synthetic`: no channel is an outlier.
LayerNormWeights draw_norm() {
  LayerNormWeights norm{.weight = draw(N_EMBD, 0.1f), .bias = draw(N_EMBD, 0.1f)};
  std::for_each_n(norm.weight.data(), N_EMBD, [](float& weight) { weight += 1.0f; });
  return norm;
}

// One layer of the tower, with weights of its own: as many layers as the model has, so that weights come from memory.
struct Layer {
  LayerNormWeights ln1 = draw_norm(), ln2 = draw_norm();
  Linear qkv, out, up, down;

  Layer(const KernelTable& k, Precision p)
      : qkv(draw_linear(k, p, 3 * N_EMBD, N_EMBD)),
        out(draw_linear(k, p, N_EMBD, N_EMBD)),
        up(draw_linear(k, p, N_FF, N_EMBD)),
        down(draw_linear(k, p, N_EMBD, N_FF)) {}
};

// Seconds of each step in each run, in the order of the first.
class Stopwatch {
 public:
  void time(const std::string& step, const std::function<void()>& run) {
    const auto start = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    auto found = std::find_if(steps_.begin(), steps_.end(), [&](const Step& s) { return s.name == step; });
    if (found == steps_.end()) found = steps_.insert(steps_.end(), {step, {}});
    found->run_s += elapsed.count();
  }

  void end_run() {
    for (Step& step : steps_) step.runs_s.push_back(std::exchange(step.run_s, 0.0));
  }

  // Medians over the runs.
  void print() {
    double total_s = 0.0;
    for (Step& step : steps_) {
      std::nth_element(step.runs_s.begin(), step.runs_s.begin() + step.runs_s.size() / 2, step.runs_s.end());
      total_s += step.median_s();
    }
    for (const Step& step : steps_) {
      std::printf("%-44s %7.1f ms %5.1f %%\n", step.name.c_str(), 1e3 * step.median_s(),
                  100 * step.median_s() / total_s);
    }
    std::printf("%-44s %7.1f ms\n", "all layers", 1e3 * total_s);
  }

 private:
  struct Step {
    std::string name;
    std::vector<double> runs_s;
    double run_s = 0.0;
    double median_s() const { return runs_s[runs_s.size() / 2]; }
  };
  std::vector<Step> steps_;
};

// The steps of csrc/vision/clip_vit.cpp: run_attention, run_ffn.
struct Tower {
  const Compute& compute;
  Precision precision;
  Buffer hidden = draw(N_TOKENS * N_EMBD, 1.0f), qkv = Buffer(N_TOKENS * 3 * N_EMBD),
         attended = Buffer(N_TOKENS * N_EMBD);
  Rows rows, ffn_rows;
  PackedHeads heads;

  void run(const Layer& w, Stopwatch& watch) {
    const ImageRows all{1, N_TOKENS, N_TOKENS};
    const AttentionSizes sizes{
        .n_images = 1, .n_tokens = N_TOKENS, .n_queries = N_TOKENS, .n_head = N_HEAD, .head_size = N_EMBD / N_HEAD};
    watch.time("layer norm 1, quantize", [&] { layer_norm(compute, rows, w.qkv, hidden.data(), w.ln1, all, 1e-5f); });
    watch.time("q, k, v: 577x3072x1024", [&] { linear(compute, qkv.data(), rows, w.qkv, all); });
    watch.time("attention: 16 heads of 577x577x64",
               [&] { attention(compute, precision, attended.data(), qkv.data(), heads, sizes); });
    watch.time("quantize attention's output", [&] { write_rows(compute, rows, w.out, attended.data(), all); });
    watch.time("attention's output, sum: 577x1024x1024",
               [&] { linear(compute, hidden.data(), rows, w.out, all, {.residual = hidden.data()}); });
    watch.time("layer norm 2, quantize", [&] { layer_norm(compute, rows, w.up, hidden.data(), w.ln2, all, 1e-5f); });
    watch.time("ffn up, quick GELU, quantize: 577x4096x1024",
               [&] { linear(compute, ffn_rows, w.down, rows, w.up, all, compute.kernels.gelu_quick); });
    watch.time("ffn down, sum: 577x1024x4096",
               [&] { linear(compute, hidden.data(), ffn_rows, w.down, all, {.residual = hidden.data()}); });
  }
};

}  // namespace

int main(int argc, char** argv) {
  const int n_threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const Precision precision = argc > 2 && std::strcmp(argv[2], "float") == 0 ? Precision::FLOAT : Precision::INT8;
  ThreadPool pool(n_threads);
  Scratch scratch(n_threads);
  const Compute compute{kernels(), pool, scratch};
  std::vector<Layer> layers;
  layers.reserve(N_LAYER);
  for (int64_t i = 0; i < N_LAYER; ++i) layers.emplace_back(compute.kernels, precision);
  Tower tower{.compute = compute, .precision = precision, .rows = {}, .ffn_rows = {}, .heads = {}};
  Stopwatch watch;
  std::printf("%s, threads: %d, layers: %d\n", compute.kernels.isa, n_threads, static_cast<int>(N_LAYER));
  for (int64_t i = 0; i < N_RUNS; ++i) {
    for (const Layer& layer : layers) tower.run(layer, watch);
    watch.end_run();
  }
  watch.print();
}
