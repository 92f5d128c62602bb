#include "cpm_bee/config.h"

#include <cmath>
#include <string>

namespace palo {
namespace {

void check_range(const std::string& what, int64_t value, int64_t least, int64_t most) {
  if (least <= value && value <= most) return;
  throw FormatError(what + ": expected " + std::to_string(least) + " to " + std::to_string(most) + ", got " +
                    std::to_string(value) + "; convert the checkpoint again");
}

void check_positive(const std::string& what, float value) {
  if (std::isfinite(value) && value > 0.0f) return;
  throw FormatError(what + ": expected a positive number, got " + std::to_string(value) +
                    "; convert the checkpoint again");
}

void check_multiple(const std::string& what, int64_t value, int64_t step, const std::string& of_what) {
  if (value % step == 0) return;
  throw FormatError(what + ": expected a multiple of " + of_what + ", " + std::to_string(step) + ", got " +
                    std::to_string(value) + "; convert the checkpoint again");
}

}  // namespace

void check_config(const CpmBeeConfig& c) {
  check_range("vocab_size", c.n_vocab, 1, 1 << 22);
  check_range("embedding_length", c.n_embd, 32, 1 << 16);
  check_range("attention.head_count", c.n_head, 1, 1 << 10);
  check_range("block_count", c.n_layer, 1, 512);
  check_range("feed_forward_length", c.n_ff, 1, 1 << 20);
  check_range("position_bias.position_buckets", c.n_position_buckets, 4, 1 << 14);
  check_range("position_bias.segment_buckets", c.n_segment_buckets, 1, 1 << 14);
  check_range("position_bias.max_distance", c.max_distance, c.n_position_buckets / 4 + 1, 1 << 20);
  check_multiple("position_bias.position_buckets", c.n_position_buckets, 4, "the two sides' halves");
  check_multiple("embedding_length", c.n_embd, 16 * c.n_head, "16 numbers for each head");
  check_positive("attention.layer_norm_rms_epsilon", c.eps);
  check_positive("embedding_scale", c.embedding_scale);
  check_positive("logit_scale", c.logit_scale);
  check_positive("residual_divisor", c.residual_divisor);
  check_positive("rotary.scale", c.rotary_scale);
  check_positive("rotary.base", c.rotary_base);
}

}  // namespace palo
