#include "vision/clip_vit.h"

#include <algorithm>

#include "vision/patches.h"

namespace palo {
namespace {

// One batch on its way through the batch.
struct Batch {
  const Compute& compute;
  const VisionConfig& config;
  TowerMemory& memory;
  int64_t n_images;

  float* hidden(int64_t image) const { return memory.hidden.data() + image * config.n_tokens() * config.n_embd; }
  ImageRows tokens() const { return {n_images, config.n_tokens(), config.n_tokens()}; }
  // The class token is an image's last row, so the rows without it come first.
  ImageRows patches() const { return {n_images, config.n_patches(), config.n_tokens()}; }
};

// hidden = pre_ln([patch embeddings; class_embd] + position_embd), the patches' rows first.
void embed(const Batch& batch, const float* pixels, const ClipWeights& weights) {
  const VisionConfig& config = batch.config;
  const KernelTable& kernels = batch.compute.kernels;
  const int64_t grid = config.grid(), n_row_values = grid * config.n_embd, n_rows = batch.tokens().end();
  batch.memory.hidden.at_least(n_rows * config.n_embd);
  batch.memory.attended.at_least(n_rows * config.n_embd);
  batch.compute.pool.parallel_for(batch.n_images * grid, [&](int64_t task, int worker) {
    const int64_t image = task / grid, py = task % grid;
    float* hidden = batch.hidden(image);
    float* out = hidden + py * n_row_values;
    embed_patch_row(batch.compute, out, pixels + image * config.n_pixels(), py, weights.patch_embd, config, worker);
    kernels.add(out, out, weights.patch_positions.data() + py * n_row_values, n_row_values);
    kernels.layer_norm(out, out, weights.pre_ln.weight.data(), weights.pre_ln.bias.data(), grid, config.n_embd,
                       config.eps);
    if (py == 0) std::copy_n(weights.class_row.data(), config.n_embd, hidden + config.n_patches() * config.n_embd);
  });
}

// hidden += attn_out(attention(ln1(hidden))) for the rows `wanted`.
void run_attention(const Batch& batch, const BlockWeights& weights, const ImageRows& wanted) {
  const Compute& compute = batch.compute;
  TowerMemory& x = batch.memory;
  const AttentionSizes sizes{.n_images = batch.n_images,
                             .n_tokens = batch.config.n_tokens(),
                             .n_queries = wanted.n_rows,
                             .n_head = batch.config.n_head,
                             .head_size = batch.config.head_size()};
  layer_norm(compute, x.rows, weights.attn_qkv, x.hidden.data(), weights.ln1, batch.tokens(), batch.config.eps);
  linear(compute, x.heads, x.rows, weights.attn_qkv, sizes);
  attention(compute, x.attended.data(), x.heads);
  write_rows(compute, x.rows, weights.attn_out, x.attended.data(), wanted);
  linear(compute, x.hidden.data(), x.rows, weights.attn_out, wanted, {.residual = x.hidden.data()});
}

// hidden += ffn_down(gelu(ffn_up(ln2(hidden)))) for the rows `wanted`.
void run_ffn(const Batch& batch, const BlockWeights& weights, const ImageRows& wanted) {
  const Compute& compute = batch.compute;
  TowerMemory& x = batch.memory;
  const Activation gelu = batch.config.use_gelu ? compute.kernels.gelu_erf : compute.kernels.gelu_quick;
  layer_norm(compute, x.rows, weights.ffn_up, x.hidden.data(), weights.ln2, wanted, batch.config.eps);
  linear(compute, x.ffn_rows, weights.ffn_down, x.rows, weights.ffn_up, wanted, gelu);
  linear(compute, x.hidden.data(), x.ffn_rows, weights.ffn_down, wanted, {.residual = x.hidden.data()});
}

// The first n_run layers; `wanted` are the rows that the last of them computes.
void run_layers(const Batch& batch, const std::vector<BlockWeights>& blocks, int64_t n_run, const ImageRows& wanted) {
  for (int64_t i = 0; i < n_run; ++i) {
    const ImageRows rows = i + 1 == n_run ? wanted : batch.tokens();
    run_attention(batch, blocks[static_cast<size_t>(i)], rows);
    run_ffn(batch, blocks[static_cast<size_t>(i)], rows);
  }
}

}  // namespace

void ClipVit::patch_embeddings(const Compute& compute, float* out, const float* pixels, int64_t n_images) const {
  embed_patches(compute, out, pixels, n_images, weights_.patch_embd, config_);
}

void ClipVit::hidden_states(const Compute& compute, float* out, const float* pixels, int64_t n_images,
                            TowerMemory& memory) const {
  const Batch batch{compute, config_, memory, n_images};
  embed(batch, pixels, weights_);
  // The last layer's class token is not used; in the other layers it is a key and a value of the next one.
  run_layers(batch, weights_.blocks, config_.n_layer, batch.patches());
  const int64_t n_out = config_.n_patches() * config_.n_embd;
  for (int64_t image = 0; image < n_images; ++image) std::copy_n(batch.hidden(image), n_out, out + image * n_out);
}

void ClipVit::residual_stream(const Compute& compute, float* out, const float* pixels, int64_t n_images, int64_t n_run,
                              TowerMemory& memory) const {
  const Batch batch{compute, config_, memory, n_images};
  embed(batch, pixels, weights_);
  run_layers(batch, weights_.blocks, n_run, batch.tokens());
  const int64_t n_embd = config_.n_embd, n_patch_values = config_.n_patches() * n_embd;
  for (int64_t image = 0; image < n_images; ++image) {
    float* class_row = out + image * config_.n_tokens() * n_embd;
    std::copy_n(batch.hidden(image) + n_patch_values, n_embd, class_row);
    std::copy_n(batch.hidden(image), n_patch_values, class_row + n_embd);
  }
}

}  // namespace palo
