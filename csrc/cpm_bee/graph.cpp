#include "cpm_bee/graph.h"

#include <cmath>
#include <new>

namespace palo {
namespace {

constexpr int64_t N_LAYER_NODES = 48;  // and leaves: 33 are used

class Builder {
 public:
  Builder(const CpmBeeConfig& config, const CpmBeeWeights& weights, const KvCells& kv, const GraphSize& size)
      : config_(config), weights_(weights), kv_(kv), size_(size) {
    const auto n_nodes = static_cast<size_t>(max_graph_nodes(config));
    result_.context.reset(
        ggml_init({n_nodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(n_nodes, false), nullptr, true}));
    if (result_.context == nullptr) throw std::bad_alloc();
    context_ = result_.context.get();
    result_.graph = ggml_new_graph_custom(context_, n_nodes, false);
  }

  BeeGraph build(LayerRange layers) {
    make_inputs();
    ggml_tensor* x = result_.rows;
    for (int64_t i = layers.begin; i < layers.end; ++i) {
      const CpmBeeLayer& layer = weights_.layers[static_cast<size_t>(i)];
      x = add_and_divide(x, attention(norm(x, layer.attn_norm), layer, kv_.layer(i)));
      if (i + 1 == config_.n_layer) x = last_rows(x, size_.n_hidden);  // nobody asks for the others' hidden states
      x = add_and_divide(x, feed_forward(norm(x, layer.ffn_norm), layer));
    }
    if (layers.end == config_.n_layer) {
      make_outputs(x);
    } else {
      result_.next = output(x);
    }
    return std::move(result_);
  }

 private:
  void make_inputs() {
    result_.rows = ggml_new_tensor_2d(context_, GGML_TYPE_F32, config_.n_embd, size_.n_rows);
    result_.cells = ggml_new_tensor_1d(context_, GGML_TYPE_I64, size_.n_rows);
    result_.mask = ggml_new_tensor_3d(context_, GGML_TYPE_F16, size_.n_cells, size_.n_rows, config_.n_head);
    for (ggml_tensor* input : {result_.rows, result_.cells, result_.mask}) ggml_set_input(input);
  }

  void make_outputs(ggml_tensor* x) {
    result_.hidden = output(norm(x, weights_.output_norm));
    ggml_tensor* scaled = ggml_scale(context_, last_rows(result_.hidden, size_.n_logits), config_.logit_scale);
    result_.logits = output(ggml_mul_mat(context_, weights_.token_embd, scaled));
  }

  ggml_tensor* output(ggml_tensor* x) {
    ggml_set_output(x);
    ggml_build_forward_expand(result_.graph, x);
    return x;
  }

  ggml_tensor* norm(ggml_tensor* x, ggml_tensor* weight) {
    return ggml_mul(context_, ggml_rms_norm(context_, x, config_.eps), weight);
  }

  ggml_tensor* add_and_divide(ggml_tensor* x, ggml_tensor* change) {
    return ggml_scale(context_, ggml_add(context_, x, change), 1.0f / config_.residual_divisor);
  }

  // [n_rows, n_embd] -> the last n of them.
  ggml_tensor* last_rows(ggml_tensor* x, int64_t n) {
    return ggml_view_2d(context_, x, x->ne[0], n, x->nb[1], static_cast<size_t>(x->ne[1] - n) * x->nb[1]);
  }

  // x [n_rows, n_embd], normalized -> [n_rows, n_embd].
  ggml_tensor* attention(ggml_tensor* x, const CpmBeeLayer& layer, const KvCells::Layer& kv) {
    ggml_tensor* query = ggml_mul_mat(context_, layer.attn_q, x);
    ggml_tensor* keys = ggml_mul_mat(context_, layer.attn_k, x);
    ggml_tensor* values = ggml_mul_mat(context_, layer.attn_v, x);
    // In this order: three products in a row share their quantized input, and cells are written before they are read.
    for (ggml_tensor* product : {query, keys, values}) ggml_build_forward_expand(result_.graph, product);
    ggml_build_forward_expand(result_.graph, ggml_set_rows(context_, kv.keys, keys, result_.cells));
    ggml_build_forward_expand(result_.graph, ggml_set_rows(context_, kv.values, values, result_.cells));
    const int64_t head_size = config_.head_size();
    ggml_tensor* heads = ggml_reshape_3d(context_, query, head_size, config_.n_head, size_.n_rows);
    ggml_tensor* mixed =
        ggml_flash_attn_ext(context_, ggml_permute(context_, heads, 0, 2, 1, 3), by_head(kv.keys), by_head(kv.values),
                            result_.mask, 1.0f / std::sqrt(static_cast<float>(head_size)), 0.0f, 0.0f);
    ggml_prec_set_acc(mixed, GGML_PREC_F32);
    return ggml_mul_mat(context_, layer.attn_output, ggml_reshape_2d(context_, mixed, config_.n_embd, size_.n_rows));
  }

  // The cells in use, [n_cells, n_embd] -> [n_head, n_cells, head_size].
  ggml_tensor* by_head(ggml_tensor* cells) {
    const auto head_bytes = static_cast<size_t>(config_.head_size()) * ggml_type_size(cells->type);
    return ggml_view_3d(context_, cells, config_.head_size(), size_.n_cells, config_.n_head, cells->nb[1], head_bytes,
                        0);
  }

  ggml_tensor* feed_forward(ggml_tensor* x, const CpmBeeLayer& layer) {
    ggml_tensor* gate = ggml_mul_mat(context_, layer.ffn_gate, x);
    ggml_tensor* up = ggml_mul_mat(context_, layer.ffn_up, x);
    return ggml_mul_mat(context_, layer.ffn_down, ggml_geglu_erf_split(context_, gate, up));
  }

  const CpmBeeConfig& config_;
  const CpmBeeWeights& weights_;
  const KvCells& kv_;
  const GraphSize size_;
  BeeGraph result_;
  ggml_context* context_ = nullptr;
};

}  // namespace

int64_t max_graph_nodes(const CpmBeeConfig& config) {
  return N_LAYER_NODES * config.n_layer + 64;
}

BeeGraph build_graph(const CpmBeeConfig& config, const CpmBeeWeights& weights, const KvCells& kv, const GraphSize& size,
                     LayerRange layers) {
  return Builder(config, weights, kv, size).build(layers);
}

}  // namespace palo
