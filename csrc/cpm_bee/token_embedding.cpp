#include "cpm_bee/token_embedding.h"

#include <ggml-backend.h>

#include <cmath>
#include <cstring>

namespace palo {
namespace {

float rounded_to_half(float value) {
  return ggml_fp16_to_fp32(ggml_fp32_to_fp16(value));
}

}  // namespace

TokenEmbedding::TokenEmbedding(const CpmBeeConfig& config, const ggml_tensor* table)
    : table_(table), scale_(config.embedding_scale), rotary_scale_(config.rotary_scale), n_embd_(config.n_embd) {
  for (int64_t k = 0; k < n_embd_ / 2; ++k) {
    const double exponent = static_cast<double>(2 * k) / static_cast<double>(n_embd_);
    frequencies_.push_back(rounded_to_half(static_cast<float>(1.0 / std::pow(config.rotary_base, exponent))));
  }
}

void TokenEmbedding::embed(float* out, BeeToken token) const {
  std::vector<uint8_t> bytes(ggml_row_size(table_->type, n_embd_));
  ggml_backend_tensor_get(table_, bytes.data(), static_cast<size_t>(token.base) * bytes.size(), bytes.size());
  if (table_->type == GGML_TYPE_F32) {
    std::memcpy(out, bytes.data(), bytes.size());
  } else {
    ggml_get_type_traits(table_->type)->to_float(bytes.data(), out, n_embd_);
  }
  for (int64_t i = 0; i < n_embd_; ++i) out[i] *= scale_;
  if (token.sub != 0) turn(out, token.sub);
}

// Value k and value k + n_embd / 2 are a pair. The published model computes frequencies and angles in binary16, which
// at high sub ids turns by 0.8 radians other than exact arithmetic would: that is what it was trained with.
void TokenEmbedding::turn(float* row, int32_t sub) const {
  const float place = rounded_to_half(rotary_scale_ * static_cast<float>(sub));
  const auto half = static_cast<int64_t>(frequencies_.size());
  for (int64_t k = 0; k < half; ++k) {
    const float angle = rounded_to_half(place * frequencies_[static_cast<size_t>(k)]);
    const float cosine = std::cos(angle), sine = std::sin(angle), a = row[k], b = row[k + half];
    row[k] = a * cosine - b * sine;
    row[k + half] = b * cosine + a * sine;
  }
}

}  // namespace palo
