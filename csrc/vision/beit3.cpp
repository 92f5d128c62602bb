#include "vision/beit3.h"

#include <algorithm>
#include <vector>

#include "vision/patches.h"

namespace palo {
namespace {

// One batch on its way through the tower. An image's rows are its queries, patches and class token: attention computes
// an image's first rows, and of the last layer only the queries are wanted.
struct Batch {
  const Compute& compute;
  const VisionConfig& config;
  TowerMemory& memory;
  int64_t n_images;

  ImageRows queries() const { return {n_images, config.n_query, config.n_tokens()}; }
  ImageRows image_tokens() const { return {n_images, config.n_patches() + 1, config.n_tokens()}; }
  int64_t n_rows() const { return n_images * config.n_tokens(); }

  float* hidden(int64_t image) const { return memory.hidden.data() + image * config.n_tokens() * config.n_embd; }
};

// hidden = [queries; patch embeddings + positions; class token].
void embed(const Batch& batch, const float* pixels, const Beit3Weights& weights) {
  const VisionConfig& config = batch.config;
  const int64_t n_embd = config.n_embd, grid = config.grid(), n_row_values = grid * n_embd, n_rows = batch.n_rows();
  batch.memory.hidden.at_least(n_rows * n_embd);
  batch.memory.qkv.at_least(n_rows * 3 * n_embd);
  batch.memory.attended.at_least(n_rows * n_embd);
  batch.memory.inner.at_least(n_rows * config.n_ff);
  batch.compute.pool.parallel_for(batch.n_images * grid, [&](int64_t task, int worker) {
    const int64_t image = task / grid, py = task % grid;
    float* patches = batch.hidden(image) + config.n_query * n_embd;
    float* out = patches + py * n_row_values;
    embed_patch_row(batch.compute, out, pixels + image * config.n_pixels(), py, weights.patch_embd, config, worker);
    batch.compute.kernels.add(out, out, weights.patch_positions.data() + py * n_row_values, n_row_values);
    if (py > 0) return;
    std::copy_n(weights.query_rows.data(), config.n_query * n_embd, batch.hidden(image));
    std::copy_n(weights.class_row.data(), n_embd, patches + config.n_patches() * n_embd);
  });
}

// One layer for a batch. What each set of weights computes is computed together, so that threads share all of it. The
// last layer's image tokens have no weights after their keys and values, and are left out from there on.
class LayerRun {
 public:
  LayerRun(const Batch& batch, const Beit3Layer& layer) : batch_(batch), layer_(layer) {}

  // hidden += attn_out(attn_ln(attention(ln1(hidden)))): every token is a key of all.
  void attend() const {
    TowerMemory& x = batch_.memory;
    const VisionConfig& config = batch_.config;
    const bool is_last = layer_.image.attn_out.n_out == 0;
    const AttentionSizes sizes{.n_images = batch_.n_images,
                               .n_tokens = config.n_tokens(),
                               .n_queries = is_last ? config.n_query : config.n_tokens(),
                               .n_head = config.n_head,
                               .head_size = config.head_size()};
    norm(x.hidden, &Beit3Set::ln1, &Beit3Set::attn_qkv);
    multiply(x.qkv, &Beit3Set::attn_qkv);
    pack_heads(batch_.compute, layer_.query.attn_qkv.precision, x.heads, x.qkv.data(), sizes);
    attention(batch_.compute, x.attended.data(), x.heads);
    norm(x.attended, &Beit3Set::attn_ln, &Beit3Set::attn_out);
    multiply(x.hidden, &Beit3Set::attn_out, {.residual = x.hidden.data()});
  }

  // hidden += ffn_down(ffn_ln(gelu_erf(ffn_up(ln2(hidden))))).
  void feed_forward() const {
    TowerMemory& x = batch_.memory;
    norm(x.hidden, &Beit3Set::ln2, &Beit3Set::ffn_up);
    multiply(x.inner, &Beit3Set::ffn_up, {.activation = batch_.compute.kernels.gelu_erf});
    norm(x.inner, &Beit3Set::ffn_ln, &Beit3Set::ffn_down);
    multiply(x.hidden, &Beit3Set::ffn_down, {.residual = x.hidden.data()});
  }

 private:
  // The rows that `next` takes = norm(x), x [n_rows, n_in of next].
  void norm(const Buffer& x, LayerNormWeights Beit3Set::* norm, Linear Beit3Set::* next) const {
    const Linear &query = layer_.query.*next, &image = layer_.image.*next;
    TowerMemory& memory = batch_.memory;
    std::vector<LayerNormPart> parts;
    if (image.n_out > 0) {
      const float* from = x.data() + batch_.config.n_query * image.n_in;
      parts.push_back({memory.rows, image, from, layer_.image.*norm, batch_.image_tokens()});
    }
    parts.push_back({memory.query_rows, query, x.data(), layer_.query.*norm, batch_.queries()});
    layer_norm(batch_.compute, parts, batch_.config.eps);
  }

  // out [n_rows, n_out of the queries' `w`] = epilogue(rows w^T + b); the residual is `out` or nothing. What the last
  // layer's image tokens do not compute, q, comes first in a row.
  void multiply(Buffer& out, Linear Beit3Set::* w, const Epilogue& epilogue = {}) const {
    const Linear &query = layer_.query.*w, &image = layer_.image.*w;
    TowerMemory& memory = batch_.memory;
    const int64_t ldo = query.n_out;
    std::vector<LinearPart> parts;
    if (image.n_out > 0) {
      const int64_t first = batch_.config.n_query * ldo + ldo - image.n_out;
      Epilogue shifted = epilogue;
      if (shifted.residual != nullptr) shifted.residual += first;
      parts.push_back({out.data() + first, memory.rows, image, batch_.image_tokens(), shifted, ldo});
    }
    parts.push_back({out.data(), memory.query_rows, query, batch_.queries(), epilogue, ldo});
    linear(batch_.compute, parts);
  }

  const Batch& batch_;
  const Beit3Layer& layer_;
};

void run_layers(const Batch& batch, const std::vector<Beit3Layer>& layers, int64_t n_run) {
  for (int64_t i = 0; i < n_run; ++i) {
    const LayerRun layer(batch, layers[static_cast<size_t>(i)]);
    layer.attend();
    layer.feed_forward();
  }
}

}  // namespace

void Beit3::patch_embeddings(const Compute& compute, float* out, const float* pixels, int64_t n_images) const {
  embed_patches(compute, out, pixels, n_images, weights_.patch_embd, config_);
}

void Beit3::hidden_states(const Compute& compute, float* out, const float* pixels, int64_t n_images,
                          TowerMemory& memory) const {
  const Batch batch{compute, config_, memory, n_images};
  embed(batch, pixels, weights_);
  run_layers(batch, weights_.layers, config_.n_layer);
  for (int64_t image = 0; image < n_images; ++image) {
    compute.kernels.layer_norm(out + image * config_.n_query * config_.n_embd, batch.hidden(image),
                               weights_.post_ln.weight.data(), weights_.post_ln.bias.data(), config_.n_query,
                               config_.n_embd, config_.eps);
  }
}

void Beit3::residual_stream(const Compute& compute, float* out, const float* pixels, int64_t n_images, int64_t n_run,
                            TowerMemory& memory) const {
  const Batch batch{compute, config_, memory, n_images};
  embed(batch, pixels, weights_);
  run_layers(batch, weights_.layers, n_run);
  const int64_t n_embd = config_.n_embd, n_queries = config_.n_query * n_embd, n_patches = config_.n_patches() * n_embd;
  for (int64_t image = 0; image < n_images; ++image, out += config_.n_tokens() * n_embd) {
    const float* queries = batch.hidden(image);
    std::copy_n(queries + n_queries + n_patches, n_embd, out);
    std::copy_n(queries + n_queries, n_patches, out + n_embd);
    std::copy_n(queries, n_queries, out + n_embd + n_patches);
  }
}

}  // namespace palo
