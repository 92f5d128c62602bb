#include "vision/beit3_weights.h"

#include <algorithm>
#include <initializer_list>

#include "vision/weights.h"

namespace palo {
namespace {

std::string set_name(int64_t layer, const char* set, const std::string& part) {
  return "v.blk." + std::to_string(layer) + "." + set + "." + part;
}

bool is_last(const VisionConfig& config, int64_t layer) {
  return layer + 1 == config.n_layer;
}

// What follows the attention in one set of a layer.
void read_after_attention(Beit3Set& weights, const VisionConfig& config, const TensorReader& reader, int64_t layer,
                          const char* set) {
  const auto name = [&](const char* part) { return set_name(layer, set, part); };
  const int64_t n_embd = config.n_embd, n_ff = config.n_ff;
  weights.attn_ln = reader.layer_norm(name("attn_ln"), n_embd);
  weights.ln2 = reader.layer_norm(name("ln2"), n_embd);
  weights.ffn_ln = reader.layer_norm(name("ffn_ln"), n_ff);
  weights.attn_out = reader.linear_after(weights.attn_ln, {name("attn_out")}, n_embd, n_embd, Groups::NARROW);
  weights.ffn_up = reader.linear_after(weights.ln2, {name("ffn_up")}, n_ff, n_embd, Groups::WIDE_WHERE_ALLOWED);
  weights.ffn_down = reader.linear_after(weights.ffn_ln, {name("ffn_down")}, n_embd, n_ff, Groups::NARROW);
}

Beit3Set read_set(const VisionConfig& config, const TensorReader& reader, int64_t layer, const char* set,
                  bool is_key_and_value_only) {
  const auto name = [&](const char* part) { return set_name(layer, set, part); };
  std::vector<std::string> prefixes = {name("attn_q"), name("attn_k"), name("attn_v")};
  if (is_key_and_value_only) prefixes.erase(prefixes.begin());
  Beit3Set weights;
  weights.ln1 = reader.layer_norm(name("ln1"), config.n_embd);
  weights.attn_qkv =
      reader.linear_after(weights.ln1, prefixes, config.n_embd, config.n_embd, Groups::WIDE_WHERE_ALLOWED);
  if (!is_key_and_value_only) read_after_attention(weights, config, reader, layer, set);
  return weights;
}

// What is added to all keys alike adds the same to all scores of a query, and softmax ignores that; in int8 it would
// cost resolution. So image keys lose their bias, and those of queries keep what theirs differs by.
void subtract_image_key_bias(Beit3Layer& layer, int64_t n_embd) {
  Buffer& image = layer.image.attn_qkv.bias;
  float* image_keys = image.data() + image.size() - 2 * n_embd;  // k and v come last
  float* query_keys = layer.query.attn_qkv.bias.data() + n_embd;
  for (int64_t i = 0; i < n_embd; ++i) query_keys[i] -= image_keys[i];
  std::fill_n(image_keys, n_embd, 0.0f);
}

}  // namespace

std::vector<std::string> beit3_names(const VisionConfig& config) {
  std::vector<std::string> names = {"v.cls", "v.pos", "v.query"};
  add_weight_and_bias(names, "v.patch");
  for (int64_t layer = 0; layer < config.n_layer; ++layer) {
    for (const char* set : {"a", "b"}) {
      const bool is_image = *set == 'a';
      for (const char* part : {"ln1", "attn_k", "attn_v"}) add_weight_and_bias(names, set_name(layer, set, part));
      if (is_image && is_last(config, layer)) continue;
      for (const char* part : {"attn_q", "attn_ln", "attn_out", "ln2", "ffn_up", "ffn_ln", "ffn_down"}) {
        add_weight_and_bias(names, set_name(layer, set, part));
      }
    }
  }
  add_weight_and_bias(names, "v.post_ln.b");
  return names;
}

Beit3Weights read_beit3(const VisionConfig& config, const TensorReader& reader) {
  const int64_t n_embd = config.n_embd;
  Beit3Weights weights{
      .patch_embd = reader.linear("v.patch", n_embd, 3 * config.patch_size * config.patch_size, true),
      .class_row = reader.values("v.cls", {n_embd}),
      .patch_positions = reader.values("v.pos", {config.n_patches(), n_embd}),
      .query_rows = reader.values("v.query", {config.n_query, n_embd}),
      .layers = {},
      .post_ln = reader.layer_norm("v.post_ln.b", n_embd),
  };
  weights.layers.reserve(config.n_layer);
  for (int64_t i = 0; i < config.n_layer; ++i) {
    Beit3Layer& layer = weights.layers.emplace_back();
    layer.image = read_set(config, reader, i, "a", is_last(config, i));
    layer.query = read_set(config, reader, i, "b", false);
    subtract_image_key_bias(layer, n_embd);
  }
  return weights;
}

}  // namespace palo
