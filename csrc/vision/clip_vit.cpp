#include "vision/clip_vit.h"

#include <algorithm>

namespace palo {
namespace {

// Activations of one image, allocated once and used by every layer.
struct Activations {
  Activations(const Compute& compute, const VisionConfig& config)
      : hidden(config.n_tokens() * config.n_embd),
        normed(hidden.size()),
        q(hidden.size()),
        k(hidden.size()),
        v(hidden.size()),
        attended(hidden.size()),
        ffn(config.n_tokens() * config.n_ff),
        attention(compute, config.n_tokens(), config.n_head, config.head_size()) {}

  Buffer hidden;  // [n_tokens, n_embd]: the residual stream
  Buffer normed, q, k, v, attended;
  Buffer ffn;  // [n_tokens, n_ff]
  AttentionScratch attention;
};

// hidden = pre_ln([class_embd; patch embeddings] + position_embd)
void embed(const Compute& compute, float* hidden, const float* pixels, const ClipWeights& weights,
           const VisionConfig& config) {
  std::copy_n(weights.class_embd.data(), config.n_embd, hidden);
  patch_embeddings(compute, hidden + config.n_embd, pixels, weights, config);
  add(compute, hidden, hidden, weights.position_embd.data(), config.n_tokens() * config.n_embd);
  layer_norm(compute, hidden, hidden, weights.pre_ln, config.n_tokens(), config.n_embd, config.eps);
}

// hidden += attn_out(attention(ln1(hidden)))
void run_attention(const Compute& compute, Activations& x, const BlockWeights& weights, const VisionConfig& config) {
  const int64_t n_tokens = config.n_tokens();
  layer_norm(compute, x.normed.data(), x.hidden.data(), weights.ln1, n_tokens, config.n_embd, config.eps);
  linear(compute, x.q.data(), x.normed.data(), weights.attn_q, n_tokens);
  linear(compute, x.k.data(), x.normed.data(), weights.attn_k, n_tokens);
  linear(compute, x.v.data(), x.normed.data(), weights.attn_v, n_tokens);
  attention(compute, x.attended.data(), x.q.data(), x.k.data(), x.v.data(), x.attention, n_tokens, config.n_head,
            config.head_size());
  linear(compute, x.normed.data(), x.attended.data(), weights.attn_out, n_tokens);
  add(compute, x.hidden.data(), x.hidden.data(), x.normed.data(), x.hidden.size());
}

// hidden += ffn_down(gelu(ffn_up(ln2(hidden))))
void run_ffn(const Compute& compute, Activations& x, const BlockWeights& weights, const VisionConfig& config) {
  const int64_t n_tokens = config.n_tokens();
  const Activation gelu = config.use_gelu ? compute.kernels.gelu_erf : compute.kernels.gelu_quick;
  layer_norm(compute, x.normed.data(), x.hidden.data(), weights.ln2, n_tokens, config.n_embd, config.eps);
  linear(compute, x.ffn.data(), x.normed.data(), weights.ffn_up, n_tokens, gelu);
  linear(compute, x.normed.data(), x.ffn.data(), weights.ffn_down, n_tokens);
  add(compute, x.hidden.data(), x.hidden.data(), x.normed.data(), x.hidden.size());
}

}  // namespace

void patch_embeddings(const Compute& compute, float* out, const float* pixels, const ClipWeights& weights,
                      const VisionConfig& config) {
  const int64_t grid = config.grid();
  const int64_t patch_values = 3 * config.patch_size * config.patch_size;
  Buffer patches(config.n_patches() * patch_values);
  compute.pool.parallel_for(grid, [&](int64_t py, int) {
    compute.kernels.patch_row(patches.data() + py * grid * patch_values, pixels, py, grid, config.patch_size);
  });
  linear(compute, out, patches.data(), weights.patch_embd, config.n_patches());
}

void hidden_states(const Compute& compute, float* out, const float* pixels, const ClipWeights& weights,
                   const VisionConfig& config) {
  Activations x(compute, config);
  embed(compute, x.hidden.data(), pixels, weights, config);
  for (const BlockWeights& block : weights.blocks) {
    run_attention(compute, x, block, config);
    run_ffn(compute, x, block, config);
  }
  std::copy_n(x.hidden.data() + config.n_embd, config.n_patches() * config.n_embd, out);
}

}  // namespace palo
