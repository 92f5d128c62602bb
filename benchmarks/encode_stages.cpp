// Where the time of an image goes: the steps of a tower's layers, one after the other, on random weights:
//   build/benchmark/palo_cpp_encode_stages [N_THREADS [int8|float [clip|beit3]]]
// clip is ViT-L/14-336, beit3 is VisCPM's eye (all layers whole: its last one computes less). With one thread the times
// are the processor's, so that other programs' share does not count. PALO_CPP_ISA forces an instruction set.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
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
constexpr int64_t N_IMAGE_TOKENS = 197, N_QUERY = 64, N_BEIT3_TOKENS = N_IMAGE_TOKENS + N_QUERY, N_BEIT3_LAYER = 24;

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

// As the loader chooses for random weights of either tower.
Precision widest(Precision precision) {
  return precision == Precision::INT8 ? Precision::INT8_WIDE : precision;
}

// Around 1, as in `palo-cpp bench --synthetic`: no channel is an outlier.
LayerNormWeights draw_norm(int64_t n = N_EMBD) {
  LayerNormWeights norm{.weight = draw(n, 0.1f), .bias = draw(n, 0.1f)};
  std::for_each_n(norm.weight.data(), n, [](float& weight) { weight += 1.0f; });
  return norm;
}

// One layer of the tower, with weights of its own: as many layers as the model has, so that weights come from memory.
struct Layer {
  LayerNormWeights ln1 = draw_norm(), ln2 = draw_norm();
  Linear qkv, out, up, down;

  Layer(const KernelTable& k, Precision p)
      : qkv(draw_linear(k, widest(p), 3 * N_EMBD, N_EMBD)),
        out(draw_linear(k, p, N_EMBD, N_EMBD)),
        up(draw_linear(k, widest(p), N_FF, N_EMBD)),
        down(draw_linear(k, p, N_EMBD, N_FF)) {}
};

// Seconds of each step in each run, in the order of the first.
class Stopwatch {
 public:
  explicit Stopwatch(bool is_processor_time) : is_processor_time_(is_processor_time) {}

  void time(const std::string& step, const std::function<void()>& run) {
    const double start_s = now_s();
    run();
    const double elapsed_s = now_s() - start_s;
    auto found = std::find_if(steps_.begin(), steps_.end(), [&](const Step& s) { return s.name == step; });
    if (found == steps_.end()) found = steps_.insert(steps_.end(), {step, {}});
    found->run_s += elapsed_s;
  }

  void end_run() {
    for (Step& step : steps_) step.runs_s.push_back(std::exchange(step.run_s, 0.0));
  }

  // Medians over the runs, and the best ones.
  void print() {
    double total_s = 0.0, best_s = 0.0;
    for (Step& step : steps_) {
      std::sort(step.runs_s.begin(), step.runs_s.end());
      total_s += step.median_s();
      best_s += step.runs_s.front();
    }
    for (const Step& step : steps_) {
      std::printf("%-48s %7.1f ms %5.1f %%, best %7.1f ms\n", step.name.c_str(), 1e3 * step.median_s(),
                  100 * step.median_s() / total_s, 1e3 * step.runs_s.front());
    }
    std::printf("%-48s %7.1f ms          best %7.1f ms\n", "all layers", 1e3 * total_s, 1e3 * best_s);
  }

 private:
  struct Step {
    std::string name;
    std::vector<double> runs_s;
    double run_s = 0.0;
    double median_s() const { return runs_s[runs_s.size() / 2]; }
  };

  double now_s() const {
    if (is_processor_time_) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  bool is_processor_time_;
  std::vector<Step> steps_;
};

// The steps of csrc/vision/clip_vit.cpp: run_attention, run_ffn.
struct Clip {
  const Compute& compute;
  Precision precision;
  Buffer hidden = draw(N_TOKENS * N_EMBD, 1.0f), attended = Buffer(N_TOKENS * N_EMBD);
  Rows rows = {}, ffn_rows = {};
  PackedHeads heads = {};

  void run(const Layer& w, Stopwatch& watch) {
    const ImageRows all{1, N_TOKENS, N_TOKENS};
    const AttentionSizes sizes{
        .n_images = 1, .n_tokens = N_TOKENS, .n_queries = N_TOKENS, .n_head = N_HEAD, .head_size = N_EMBD / N_HEAD};
    watch.time("layer norm 1, quantize", [&] { layer_norm(compute, rows, w.qkv, hidden.data(), w.ln1, all, 1e-5f); });
    watch.time("q, k, v, quantize: 577x3072x1024", [&] { linear(compute, heads, rows, w.qkv, sizes); });
    watch.time("attention: 16 heads of 577x577x64", [&] { attention(compute, attended.data(), heads); });
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

// One layer of BEiT-3 with queries: weights of the image tokens and of the queries.
struct Beit3Layer {
  struct Set {
    LayerNormWeights ln1 = draw_norm(), attn_ln = draw_norm(), ln2 = draw_norm(), ffn_ln = draw_norm(N_FF);
    Layer matrices;
  };
  Set image, query;

  Beit3Layer(const KernelTable& k, Precision p) : image{.matrices = Layer(k, p)}, query{.matrices = Layer(k, p)} {}
};

// The steps of csrc/vision/beit3.cpp: LayerRun.
struct Beit3 {
  const Compute& compute;
  Precision precision;
  Buffer hidden = draw(N_BEIT3_TOKENS * N_EMBD, 1.0f), qkv = Buffer(N_BEIT3_TOKENS * 3 * N_EMBD),
         attended = Buffer(N_BEIT3_TOKENS * N_EMBD), inner = Buffer(N_BEIT3_TOKENS * N_FF);
  Rows rows = {}, query_rows = {};
  PackedHeads heads = {};

  void run(const Beit3Layer& w, Stopwatch& watch) {
    const AttentionSizes sizes{.n_images = 1,
                               .n_tokens = N_BEIT3_TOKENS,
                               .n_queries = N_BEIT3_TOKENS,
                               .n_head = N_HEAD,
                               .head_size = N_EMBD / N_HEAD};
    const Epilogue sum{.residual = hidden.data()};
    watch.time("layer norm 1, quantize", [&] { norm(hidden, w, &Beit3Layer::Set::ln1, &Layer::qkv); });
    watch.time("q, k, v: 197 + 64 x 3072x1024", [&] { multiply(qkv, w, &Layer::qkv, {}); });
    watch.time("quantize q, k, v", [&] { pack_heads(compute, precision, heads, qkv.data(), sizes); });
    watch.time("attention: 16 heads of 261x261x64", [&] { attention(compute, attended.data(), heads); });
    watch.time("attention's layer norm, quantize", [&] { norm(attended, w, &Beit3Layer::Set::attn_ln, &Layer::out); });
    watch.time("attention's output, sum: 197 + 64 x 1024x1024", [&] { multiply(hidden, w, &Layer::out, sum); });
    watch.time("layer norm 2, quantize", [&] { norm(hidden, w, &Beit3Layer::Set::ln2, &Layer::up); });
    watch.time("ffn up, GELU: 197 + 64 x 4096x1024",
               [&] { multiply(inner, w, &Layer::up, {.activation = compute.kernels.gelu_erf}); });
    watch.time("ffn's layer norm, quantize", [&] { norm(inner, w, &Beit3Layer::Set::ffn_ln, &Layer::down); });
    watch.time("ffn down, sum: 197 + 64 x 1024x4096", [&] { multiply(hidden, w, &Layer::down, sum); });
  }

 private:
  static constexpr ImageRows IMAGE{1, N_IMAGE_TOKENS, N_IMAGE_TOKENS}, QUERY{1, N_QUERY, N_QUERY};

  void norm(const Buffer& x, const Beit3Layer& w, LayerNormWeights Beit3Layer::Set::* norm, Linear Layer::* next) {
    const Linear &image = w.image.matrices.*next, &query = w.query.matrices.*next;
    layer_norm(compute,
               std::vector<LayerNormPart>{{rows, image, x.data() + N_QUERY * image.n_in, w.image.*norm, IMAGE},
                                          {query_rows, query, x.data(), w.query.*norm, QUERY}},
               1e-5f);
  }

  void multiply(Buffer& out, const Beit3Layer& w, Linear Layer::* part, const Epilogue& epilogue) {
    const Linear &image = w.image.matrices.*part, &query = w.query.matrices.*part;
    const int64_t n = query.n_out, first = N_QUERY * n;
    Epilogue shifted = epilogue;
    if (shifted.residual != nullptr) shifted.residual += first;
    linear(compute, std::vector<LinearPart>{{out.data() + first, rows, image, IMAGE, shifted, n},
                                            {out.data(), query_rows, query, QUERY, epilogue, n}});
  }
};

template <typename Tower, typename TowerLayer>
void measure(const Compute& compute, Precision precision, int64_t n_layer) {
  std::vector<TowerLayer> layers;
  layers.reserve(n_layer);
  for (int64_t i = 0; i < n_layer; ++i) layers.emplace_back(compute.kernels, precision);
  Tower tower{.compute = compute, .precision = precision};
  Stopwatch watch(compute.pool.n_threads() == 1);
  std::printf("%s, threads: %d, layers: %d\n", compute.kernels.isa, compute.pool.n_threads(),
              static_cast<int>(n_layer));
  for (int64_t i = 0; i < N_RUNS; ++i) {
    for (const TowerLayer& layer : layers) tower.run(layer, watch);
    watch.end_run();
  }
  watch.print();
}

}  // namespace

int main(int argc, char** argv) {
  const int n_threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const Precision precision = argc > 2 && std::strcmp(argv[2], "float") == 0 ? Precision::FLOAT : Precision::INT8;
  ThreadPool pool(n_threads);
  Scratch scratch(n_threads);
  const Compute compute{kernels(), pool, scratch};
  if (argc > 3 && std::strcmp(argv[3], "beit3") == 0) {
    measure<Beit3, Beit3Layer>(compute, precision, N_BEIT3_LAYER);
  } else {
    measure<Clip, Layer>(compute, precision, N_LAYER);
  }
}
