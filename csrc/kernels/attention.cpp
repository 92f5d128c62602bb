#include "kernels/attention.h"

#include <algorithm>
#include <cmath>

namespace palo {
namespace {

// Query rows of a task, and of a part of it, whose weights (577 floats wide: 27 KiB) stay in the first-level cache.
constexpr int64_t QUERY_ROWS = 48, PART_ROWS = 12;

// One image's head: where it lies in qkv and out, and its packed keys and values.
struct Head {
  const float* qkv;  // q of the first token
  float* out;
  const uint8_t* keys;
  const uint8_t* values;
};

struct Attention {
  const Compute& compute;
  Format format;
  const AttentionSizes& sizes;

  int64_t ldq() const { return 3 * sizes.n_embd(); }
  int64_t key_bytes() const { return format.panels_bytes(sizes.n_tokens, sizes.head_size); }
  int64_t value_bytes() const { return format.panels_bytes(sizes.head_size, sizes.n_tokens); }

  // Index of a head among those of all images, to its place.
  Head head(float* out, const float* qkv, const PackedHeads& packed, int64_t i) const {
    const int64_t row = i / sizes.n_head * sizes.n_tokens, col = i % sizes.n_head * sizes.head_size;
    return {qkv + row * ldq() + col, out + row * sizes.n_embd() + col, packed.keys.data() + i * key_bytes(),
            packed.values.data() + i * value_bytes()};
  }

  void pack(uint8_t* keys, uint8_t* values, const float* qkv) const {
    format.pack_panels(keys, qkv + sizes.n_embd(), sizes.n_tokens, sizes.head_size, ldq(), 1);
    format.pack_panels(values, qkv + 2 * sizes.n_embd(), sizes.head_size, sizes.n_tokens, 1, ldq());
  }

  // Rows [row, row + n_rows) of a head's result, at most PART_ROWS.
  void attend(const Head& head, int64_t row, int64_t n_rows, int worker) const {
    const int64_t n_tokens = sizes.n_tokens, head_size = sizes.head_size;
    float* scratch = compute.scratch.floats(worker, 0, PART_ROWS * (n_tokens + 32));
    uint8_t* queries = compute.scratch.bytes(worker, 1, PART_ROWS * format.row_bytes(head_size));
    uint8_t* weights = compute.scratch.bytes(worker, 2, PART_ROWS * format.row_bytes(n_tokens));
    format.write_rows(queries, head.qkv + row * ldq(), n_rows, head_size, ldq());
    format.attention_weights(weights, queries, head.keys, scratch, n_rows, n_tokens, head_size,
                             1.0f / std::sqrt(static_cast<float>(head_size)));
    format.linear(head.out + row * sizes.n_embd(), weights, head.values, nullptr, n_rows, head_size, n_tokens,
                  sizes.n_embd());
  }
};

}  // namespace

void attention(const Compute& compute, Precision precision, float* out, const float* qkv, PackedHeads& packed,
               const AttentionSizes& sizes) {
  // A head is as wide as a narrow group.
  const Precision of_heads = precision == Precision::FLOAT ? Precision::FLOAT : Precision::INT8;
  const Attention attention{compute, Format(compute.kernels, of_heads), sizes};
  const int64_t n_heads = sizes.n_images * sizes.n_head;
  packed.keys.at_least(n_heads * attention.key_bytes());
  packed.values.at_least(n_heads * attention.value_bytes());
  compute.pool.parallel_for(n_heads, [&](int64_t i, int) {
    attention.pack(packed.keys.data() + i * attention.key_bytes(), packed.values.data() + i * attention.value_bytes(),
                   attention.head(out, qkv, packed, i).qkv);
  });
  const RowBlocks blocks({n_heads, sizes.n_queries, 0}, QUERY_ROWS);
  compute.pool.parallel_for(blocks.size(), [&](int64_t task, int worker) {
    const RowBlocks::Block block = blocks[task];
    const Head head = attention.head(out, qkv, packed, block.image);
    for (int64_t r = 0; r < block.n_rows; r += PART_ROWS) {
      attention.attend(head, block.row + r, std::min(PART_ROWS, block.n_rows - r), worker);
    }
  });
}

}  // namespace palo
