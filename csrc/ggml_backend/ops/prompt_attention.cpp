#include "ggml_backend/ops/prompt_attention.h"

#include <algorithm>

#include "ggml_backend/packed_matrix.h"
#include "ggml_backend/parallel.h"
#include "kernels/cache_attention.h"
#include "kernels/row_kernels.h"

namespace palo::backend {
namespace {

// Queries of a task: their scores for 640 cells, 160 KiB, stay in a second-level cache.
constexpr int64_t N_TASK_QUERIES = 64;
// Cells that are unpacked together.
constexpr int64_t N_UNPACKED_CELLS = 128;
// Products leave out cells before the first one that is seen, in whole blocks: sums have the same bits with and
// without.
constexpr int64_t N_BLOCK_CELLS = 256;
// Bytes of panels that are in memory at a time: the heads are processed in groups.
constexpr int64_t GROUP_BYTES = 8 << 20;
constexpr uint16_t HALF_MINUS_INFINITY = 0xFC00;

int64_t round_up(int64_t n, int64_t step) {
  return (n + step - 1) / step * step;
}

// Heads [begin, end) of the keys and values, all streams counted, whose panels are packed and used together.
//   key panels: weights of a product query -> scores, [n_cells outputs, head_size inputs];
//   value panels: of the product weights -> out, [head_size outputs, n_cells inputs].
struct HeadGroup {
  AttentionTensors x;
  int64_t begin, end;
  float *key_panels, *value_panels;
  float* scratch;  // per worker: what a task needs

  int64_t panel_width() const { return kernels_in_use().panel_width; }
  int64_t key_size() const { return round_up(x.n_cells(), panel_width()) * x.head_size(); }
  int64_t value_size() const { return round_up(x.head_size(), panel_width()) * x.n_cells(); }
  int64_t worker_size() const {
    return std::max(N_TASK_QUERIES * round_up(x.n_cells(), 16), N_UNPACKED_CELLS * x.head_size());
  }
  float* worker_scratch() const { return scratch + worker() * worker_size(); }

  const uint8_t* cell(const ggml_tensor& cells, int64_t head, int64_t i) const {
    return AttentionTensors::at(cells, i, head % x.n_head_kv(), head / x.n_head_kv());
  }

  // Cells [first, first + n) of one head, as f32 [n, head_size].
  const float* unpacked(const ggml_tensor& cells, int64_t head, int64_t first, int64_t n) const {
    float* out = worker_scratch();
    for (int64_t i = 0; i < n; ++i) {
      kernels_in_use().rows->from_halves(out + i * x.head_size(), cell(cells, head, first + i), x.head_size());
    }
    return out;
  }

  int64_t n_pack_tasks() const { return (end - begin) * ((x.n_cells() + N_UNPACKED_CELLS - 1) / N_UNPACKED_CELLS); }

  void pack(int64_t task) const {
    const int64_t first = task / (end - begin) * N_UNPACKED_CELLS, head = begin + task % (end - begin);
    const int64_t n = std::min(N_UNPACKED_CELLS, x.n_cells() - first), head_size = x.head_size(), width = panel_width();
    float* values_out = value_panels + (head - begin) * value_size() + first * width;
    if (!is_seen(first, n, head)) {
      // Another conversation's: their weights are 0, but 0 times what is left there need not be.
      for (int64_t d = 0; d < head_size; d += width) std::fill_n(values_out + d * x.n_cells(), n * width, 0.0f);
      return;
    }
    float* keys_out = key_panels + (head - begin) * key_size();
    const float* keys = unpacked(x.keys, head, first, n);
    for (int64_t i = 0; i < n; i += width) {  // N_UNPACKED_CELLS is a multiple of every panel's width
      kernels_in_use().pack_panel(keys_out + (first + i) * head_size, keys + i * head_size, std::min(width, n - i),
                                  head_size, head_size, 1);
    }
    const float* values = unpacked(x.values, head, first, n);
    for (int64_t d = 0; d < head_size; d += width) {
      kernels_in_use().pack_panel(values_out + d * x.n_cells(), values + d, std::min(width, head_size - d), n, 1,
                                  head_size);
    }
  }

  // Whether a query sees one of the cells [first, first + n). The last query is asked first: of a prompt alone, it sees
  // all cells. Masks of single heads, which no model here has, are not looked at.
  bool is_seen(int64_t first, int64_t n, int64_t head) const {
    if (x.mask == nullptr || x.mask->ne[2] != 1) return true;
    for (int64_t i = x.n_queries() - 1; i >= 0; --i) {
      const uint16_t* row = mask_of(i, 0, head / x.n_head_kv()) + first;
      if (!std::all_of(row, row + n, [](uint16_t value) { return value == HALF_MINUS_INFINITY; })) return true;
    }
    return false;
  }

  const uint16_t* mask_of(int64_t query, int64_t head, int64_t stream) const {
    return reinterpret_cast<const uint16_t*>(x.mask_row(query, head, stream));
  }

  int64_t n_query_blocks() const { return (x.n_queries() + N_TASK_QUERIES - 1) / N_TASK_QUERIES; }
  int64_t n_attend_tasks() const { return (end - begin) * (x.n_head() / x.n_head_kv()) * n_query_blocks(); }

  struct Range {
    int64_t begin, end;
  };
  // Cells from the first one that a query of [first, first + n) sees, or a few earlier, to the last one.
  Range seen_cells(int64_t first, int64_t n, int64_t head, int64_t stream) const {
    if (x.mask == nullptr) return {0, x.n_cells()};
    Range seen{x.n_cells(), 0};
    for (int64_t i = first; i < first + n; ++i) {
      const uint16_t* row = mask_of(i, head, stream);
      int64_t begin_of_row = 0, end_of_row = x.n_cells();
      while (end_of_row > seen.end && row[end_of_row - 1] == HALF_MINUS_INFINITY) --end_of_row;
      while (begin_of_row < seen.begin && row[begin_of_row] == HALF_MINUS_INFINITY) ++begin_of_row;
      seen = {std::min(seen.begin, begin_of_row), std::max(seen.end, end_of_row)};
    }
    return {seen.begin / N_BLOCK_CELLS * N_BLOCK_CELLS, seen.end};
  }

  // A block of queries of one head. The last blocks see the most cells, so they run first, and no thread is left with
  // one at the end.
  void attend(int64_t task) const {
    const KernelTable& kernels = kernels_in_use();
    const int64_t n_sharing = x.n_head() / x.n_head_kv(), n_heads = (end - begin) * n_sharing;
    const int64_t group_head = task % n_heads / n_sharing, head_kv = begin + group_head;
    const int64_t stream = head_kv / x.n_head_kv(), head = head_kv % x.n_head_kv() * n_sharing + task % n_sharing;
    const int64_t first = (n_query_blocks() - 1 - task / n_heads) * N_TASK_QUERIES;
    const int64_t n = std::min(N_TASK_QUERIES, x.n_queries() - first);
    const Range seen = seen_cells(first, n, head, stream);
    const int64_t n_cells = seen.end - seen.begin, ldo = x.n_head() * x.head_size();
    float* out = x.out_row(first, head, stream);
    if (seen.end == 0) {
      for (int64_t i = 0; i < n; ++i) std::fill_n(out + i * ldo, x.head_size(), 0.0f);
      return;
    }
    float* scores = worker_scratch();
    const int64_t ld = round_up(n_cells, 16), ldq = static_cast<int64_t>(x.query.nb[1] / sizeof(float));
    kernels.linear(scores, x.query_row(first, head, stream),
                   key_panels + group_head * key_size() + seen.begin * x.head_size(), nullptr, n, n_cells,
                   x.head_size(), ld, ldq);
    for (int64_t i = 0; i < n; ++i) {
      const uint8_t* mask = x.mask == nullptr ? nullptr : x.mask_row(first + i, head, stream) + 2 * seen.begin;
      kernels.cache_attention->masked_softmax(scores + i * ld, mask, n_cells, x.scale());
    }
    for (int64_t d = 0; d < x.head_size(); d += panel_width()) {
      const float* values = value_panels + group_head * value_size() + d * x.n_cells() + seen.begin * panel_width();
      kernels.linear(out + d, scores, values, nullptr, n, std::min(panel_width(), x.head_size() - d), n_cells, ldo, ld);
    }
  }
};

HeadGroup group_of(const AttentionTensors& x) {
  return {x, 0, 0, nullptr, nullptr, nullptr};
}

int64_t n_heads_of_group(const HeadGroup& group) {
  const int64_t head_bytes = (group.key_size() + group.value_size()) * static_cast<int64_t>(sizeof(float));
  return std::clamp<int64_t>(GROUP_BYTES / head_bytes, 1, group.x.n_head_kv() * group.x.n_streams());
}

}  // namespace

int64_t prompt_attention_bytes(const AttentionTensors& x, int n_threads) {
  const HeadGroup group = group_of(x);
  const int64_t n = n_heads_of_group(group) * (group.key_size() + group.value_size()) + n_threads * group.worker_size();
  return n * static_cast<int64_t>(sizeof(float));
}

void plan_prompt_attention(Plan& plan, const AttentionTensors& x) {
  HeadGroup group = group_of(x);
  const int64_t n_group = n_heads_of_group(group);
  group.key_panels = reinterpret_cast<float*>(plan.scratch.data());
  group.value_panels = group.key_panels + n_group * group.key_size();
  group.scratch = group.value_panels + n_group * group.value_size();
  for (const int64_t n_heads = x.n_head_kv() * x.n_streams(); group.begin < n_heads; group.begin = group.end) {
    group.end = std::min(n_heads, group.begin + n_group);
    plan.add({group.n_pack_tasks(), [group](int64_t task) { group.pack(task); }});
    plan.add({group.n_attend_tasks(), [group](int64_t task) { group.attend(task); }});
  }
}

}  // namespace palo::backend
