#include "kernels/attention.h"

#include <algorithm>
#include <cmath>

namespace palo {
namespace {

// Query rows of a task, and of a part of it, whose weights (577 floats wide: 27 KiB) stay in the first-level cache.
constexpr int64_t QUERY_ROWS = 48, PART_ROWS = 12;

// Rows [row, row + n_rows) of a head's result, at most PART_ROWS.
void attend(const Compute& compute, float* out, const PackedHeads& heads, int64_t image, int64_t head, int64_t row,
            int64_t n_rows, int worker) {
  const AttentionSizes& sizes = heads.sizes();
  const Format format = heads.format();
  const int64_t n_tokens = sizes.n_tokens, head_size = sizes.head_size;
  float* scratch = compute.scratch.floats(worker, 0, PART_ROWS * (n_tokens + 32));
  uint8_t* weights = compute.scratch.bytes(worker, 1, PART_ROWS * format.row_bytes(n_tokens));
  format.attention_weights(weights, heads.query(image, head, row), heads.keys(image, head), scratch, n_rows, n_tokens,
                           head_size, 1.0f / std::sqrt(static_cast<float>(head_size)));
  format.linear(out + (image * n_tokens + row) * sizes.n_embd() + head * head_size, weights, heads.values(image, head),
                nullptr, n_rows, head_size, n_tokens, sizes.n_embd());
}

}  // namespace

void PackedHeads::shape_for(const KernelTable& kernels, Precision precision, const AttentionSizes& sizes) {
  kernels_ = &kernels;
  // A head is as wide as a narrow group.
  precision_ = precision == Precision::FLOAT ? Precision::FLOAT : Precision::INT8;
  sizes_ = sizes;
  queries_.at_least(query_at(sizes.n_images, 0, 0));
  keys_.at_least(keys_at(sizes.n_images, 0));
  values_.at_least(values_at(sizes.n_images, 0));
}

void PackedHeads::write(int64_t image, int64_t token, int64_t n_tokens, int64_t col, int64_t n_cols, const float* x,
                        int64_t ldx) {
  const int64_t head_size = sizes_.head_size, n_embd = sizes_.n_embd();
  const Format format = this->format();
  for (const int64_t end = col + n_cols; col < end; col += head_size, x += head_size) {
    const int64_t part = col / n_embd, head = col % n_embd / head_size;
    if (part == 0) {
      format.write_rows(queries_.data() + query_at(image, head, token), x, n_tokens, head_size, ldx);
    } else if (part == 1) {
      const int64_t first = token / format.panel_width() * format.panel_bytes(head_size);
      format.pack_panels(keys_.data() + keys_at(image, head) + first, x, n_tokens, head_size, ldx, 1);
    } else {
      uint8_t* panels = values_.data() + values_at(image, head);
      format.pack_inputs(panels, sizes_.n_tokens, token, x, head_size, n_tokens, 1, ldx);
    }
  }
}

void pack_heads(const Compute& compute, Precision precision, PackedHeads& heads, const float* qkv,
                const AttentionSizes& sizes) {
  heads.shape_for(compute.kernels, precision, sizes);
  const int64_t n_heads = 3 * sizes.n_head, ldq = 3 * sizes.n_embd();
  const RowBlocks blocks = RowBlocks::of_steps({sizes.n_images, sizes.n_tokens, sizes.n_tokens}, heads.TOKEN_STEP);
  compute.pool.parallel_for(n_heads * blocks.size(), [&](int64_t task, int) {
    const RowBlocks::Block block = blocks[task / n_heads];
    const int64_t col = task % n_heads * sizes.head_size;
    heads.write(block.image, block.row - block.image * sizes.n_tokens, block.n_rows, col, sizes.head_size,
                qkv + block.row * ldq + col, ldq);
  });
}

void linear(const Compute& compute, PackedHeads& heads, const Rows& x, const Linear& w, const AttentionSizes& sizes) {
  heads.shape_for(compute.kernels, w.precision, sizes);
  const ImageRows rows{sizes.n_images, sizes.n_tokens, sizes.n_tokens};
  linear(compute, x, w, rows, {heads.TOKEN_STEP, sizes.head_size}, nullptr, [&](const Tile& tile, const float* values) {
    heads.write(tile.image, tile.row - tile.image * sizes.n_tokens, tile.n_rows, tile.col, tile.n_cols, values,
                tile.n_cols);
  });
}

void attention(const Compute& compute, float* out, const PackedHeads& heads) {
  const AttentionSizes& sizes = heads.sizes();
  const RowBlocks blocks({sizes.n_images * sizes.n_head, sizes.n_queries, 0}, QUERY_ROWS);
  compute.pool.parallel_for(blocks.size(), [&](int64_t task, int worker) {
    const RowBlocks::Block block = blocks[task];
    const int64_t image = block.image / sizes.n_head, head = block.image % sizes.n_head;
    for (int64_t r = 0; r < block.n_rows; r += PART_ROWS) {
      attend(compute, out, heads, image, head, block.row + r, std::min(PART_ROWS, block.n_rows - r), worker);
    }
  });
}

}  // namespace palo
