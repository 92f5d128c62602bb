#include "vision/clip_vit.h"

#include <algorithm>

namespace palo {
namespace {

// One batch on its way through the tower.
struct Tower {
  const Compute& compute;
  const VisionConfig& config;
  TowerMemory& memory;
  int64_t n_images;

  ImageRows tokens() const { return {n_images, config.n_tokens(), config.n_tokens()}; }
  // The class token is an image's last row, so the rows without it come first.
  ImageRows patches() const { return {n_images, config.n_patches(), config.n_tokens()}; }
};

// out [grid, n_embd] = embeddings of row py of an image's patch grid.
void embed_patch_row(const Compute& compute, float* out, const float* pixels, int64_t py, const ClipWeights& weights,
                     const VisionConfig& config, int worker) {
  const Linear& w = weights.patch_embd;
  const Format format = w.format(compute.kernels);
  const int64_t grid = config.grid();
  float* patches = compute.scratch.floats(worker, 0, grid * w.n_in);
  uint8_t* rows = compute.scratch.bytes(worker, 1, grid * format.row_bytes(w.n_in));
  compute.kernels.patch_row(patches, pixels, py, grid, config.patch_size);
  format.write_rows(rows, patches, grid, w.n_in, w.n_in);
  format.linear(out, rows, w.panels.data(), nullptr, grid, w.n_out, w.n_in, w.n_out);
}

// hidden = pre_ln([patch embeddings; class_embd] + position_embd), the patches' rows first.
void embed(const Tower& tower, const float* pixels, const ClipWeights& weights) {
  const VisionConfig& config = tower.config;
  const KernelTable& kernels = tower.compute.kernels;
  const int64_t grid = config.grid(), n_row_values = grid * config.n_embd;
  tower.compute.pool.parallel_for(tower.n_images * grid, [&](int64_t task, int worker) {
    const int64_t image = task / grid, py = task % grid;
    float* hidden = tower.memory.hidden.data() + image * config.n_tokens() * config.n_embd;
    float* out = hidden + py * n_row_values;
    embed_patch_row(tower.compute, out, pixels + image * config.n_pixels(), py, weights, config, worker);
    kernels.add(out, out, weights.patch_positions.data() + py * n_row_values, n_row_values);
    kernels.layer_norm(out, out, weights.pre_ln.weight.data(), weights.pre_ln.bias.data(), grid, config.n_embd,
                       config.eps);
    if (py == 0) std::copy_n(weights.class_row.data(), config.n_embd, hidden + config.n_patches() * config.n_embd);
  });
}

// hidden += attn_out(attention(ln1(hidden))) for the rows `wanted`.
void run_attention(const Tower& tower, const BlockWeights& weights, const ImageRows& wanted) {
  const Compute& compute = tower.compute;
  TowerMemory& x = tower.memory;
  const AttentionSizes sizes{.n_images = tower.n_images,
                             .n_tokens = tower.config.n_tokens(),
                             .n_queries = wanted.n_rows,
                             .n_head = tower.config.n_head,
                             .head_size = tower.config.head_size()};
  layer_norm(compute, x.rows, weights.attn_qkv, x.hidden.data(), weights.ln1, tower.tokens(), tower.config.eps);
  linear(compute, x.qkv.data(), x.rows, weights.attn_qkv, tower.tokens());
  attention(compute, weights.attn_qkv.precision, x.attended.data(), x.qkv.data(), x.heads, sizes);
  write_rows(compute, x.rows, weights.attn_out, x.attended.data(), wanted);
  linear(compute, x.hidden.data(), x.rows, weights.attn_out, wanted, {.residual = x.hidden.data()});
}

// hidden += ffn_down(gelu(ffn_up(ln2(hidden)))) for the rows `wanted`.
void run_ffn(const Tower& tower, const BlockWeights& weights, const ImageRows& wanted) {
  const Compute& compute = tower.compute;
  TowerMemory& x = tower.memory;
  const Activation gelu = tower.config.use_gelu ? compute.kernels.gelu_erf : compute.kernels.gelu_quick;
  layer_norm(compute, x.rows, weights.ffn_up, x.hidden.data(), weights.ln2, wanted, tower.config.eps);
  linear(compute, x.ffn_rows, weights.ffn_down, x.rows, weights.ffn_up, wanted, gelu);
  linear(compute, x.hidden.data(), x.ffn_rows, weights.ffn_down, wanted, {.residual = x.hidden.data()});
}

}  // namespace

void patch_embeddings(const Compute& compute, float* out, const float* pixels, int64_t n_images,
                      const ClipWeights& weights, const VisionConfig& config) {
  const int64_t grid = config.grid();
  compute.pool.parallel_for(n_images * grid, [&](int64_t task, int worker) {
    embed_patch_row(compute, out + task * grid * config.n_embd, pixels + task / grid * config.n_pixels(), task % grid,
                    weights, config, worker);
  });
}

void hidden_states(const Compute& compute, float* out, const float* pixels, int64_t n_images, TowerMemory& memory,
                   const ClipWeights& weights, const VisionConfig& config) {
  const Tower tower{compute, config, memory, n_images};
  const int64_t n_rows = tower.tokens().end();
  memory.hidden.at_least(n_rows * config.n_embd);
  memory.qkv.at_least(n_rows * 3 * config.n_embd);
  memory.attended.at_least(n_rows * config.n_embd);
  embed(tower, pixels, weights);
  for (const BlockWeights& block : weights.blocks) {
    // The last layer's class token is not used; in the other layers it is a key and a value of the next one.
    const ImageRows wanted = &block == &weights.blocks.back() ? tower.patches() : tower.tokens();
    run_attention(tower, block, wanted);
    run_ffn(tower, block, wanted);
  }
  const int64_t n_out = config.n_patches() * config.n_embd;
  for (int64_t image = 0; image < n_images; ++image) {
    std::copy_n(memory.hidden.data() + image * config.n_tokens() * config.n_embd, n_out, out + image * n_out);
  }
}

}  // namespace palo
