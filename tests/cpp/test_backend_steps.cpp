// The steps between the products, against ggml's CPU backend: RMS norm to attention, as a LLaMA graph has them.
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "ggml_backend/device.h"
#include "ggml_backend/ggml_abi.h"
#include "ggml_backend/ops/operations.h"

namespace {

using palo::backend::operation_for;
using palo::backend::Plan;

struct FreeContext {
  void operator()(ggml_context* context) const { ggml_free(context); }
};
struct FreeBackend {
  void operator()(ggml_backend_t backend) const { ggml_backend_free(backend); }
};
struct FreeBuffer {
  void operator()(ggml_backend_buffer_t buffer) const { ggml_backend_buffer_free(buffer); }
};

std::vector<float> draw(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = normal(random);
  return values;
}

// A graph of one node: `build` makes its inputs and the node, `fill` writes the inputs.
struct Case {
  std::function<ggml_tensor*(ggml_context*)> build;
  std::function<void(ggml_context*)> fill;
};

// Fills every f32 and f16 tensor that nothing computes.
void fill_randomly(ggml_context* context) {
  unsigned seed = 1;
  for (ggml_tensor* t = ggml_get_first_tensor(context); t != nullptr; t = ggml_get_next_tensor(context, t)) {
    if (t->op != GGML_OP_NONE) continue;
    const std::vector<float> values = draw(ggml_nelements(t), seed++);
    if (t->type == GGML_TYPE_F32) std::memcpy(t->data, values.data(), ggml_nbytes(t));
    if (t->type == GGML_TYPE_F16) {
      ggml_fp32_to_fp16_row(values.data(), static_cast<ggml_fp16_t*>(t->data), ggml_nelements(t));
    }
  }
}

// The memory that the node writes: its own, or that of the tensor that it views.
std::vector<uint8_t> result_of(const ggml_tensor* node) {
  const ggml_tensor* whole = node->view_src == nullptr ? node : node->view_src;
  const auto* bytes = static_cast<const uint8_t*>(whole->data);
  return {bytes, bytes + ggml_nbytes(whole)};
}

// Runs the case: by the CPU backend for n_threads = 0, else by our operation.
std::vector<uint8_t> solve(const Case& test, int n_threads) {
  const std::unique_ptr<ggml_context, FreeContext> context(
      ggml_init({64 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true}));
  ggml_tensor* node = test.build(context.get());
  const std::unique_ptr<ggml_backend_buffer, FreeBuffer> memory(
      ggml_backend_alloc_ctx_tensors_from_buft(context.get(), ggml_backend_cpu_buffer_type()));
  std::memset(ggml_backend_buffer_get_base(memory.get()), 0, ggml_backend_buffer_get_size(memory.get()));
  test.fill(context.get());
  if (n_threads == 0) {
    const std::unique_ptr<ggml_backend, FreeBackend> cpu(
        ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
    const auto set_n_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(ggml_backend_get_device(cpu.get())), "ggml_backend_set_n_threads"));
    set_n_threads(cpu.get(), 1);  // ThreadSanitizer does not understand OpenMP's threads
    ggml_cgraph* graph = ggml_new_graph(context.get());
    ggml_build_forward_expand(graph, node);
    CHECK(ggml_backend_graph_compute(cpu.get(), graph) == GGML_STATUS_SUCCESS);
    return result_of(node);
  }
  const palo::backend::Operation* operation = operation_for(*node);
  CHECK(operation != nullptr);
  Plan plan;
  plan.n_threads = n_threads;
  plan.begin();
  plan.scratch.at_least(operation->scratch_bytes(*node, n_threads));
  CHECK(operation->plan(plan, &node, 1) == 1);
  run_phases(plan.phases, n_threads);
  return result_of(node);
}

// Within tolerance * (1 + |expected|) of ggml, equal bits for any number of threads.
void check(const Case& test, float tolerance) {
  const std::vector<uint8_t> expected_bytes = solve(test, 0), got_bytes = solve(test, 1);
  std::vector<float> expected(expected_bytes.size() / sizeof(float)), got(expected.size());
  std::memcpy(expected.data(), expected_bytes.data(), expected_bytes.size());
  std::memcpy(got.data(), got_bytes.data(), got_bytes.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CHECK(std::abs(got[i] - expected[i]) <= tolerance * (1.0f + std::abs(expected[i])));
  }
  for (const int n_threads : {2, 3, 7}) CHECK(solve(test, n_threads) == got_bytes);
}

ggml_tensor* floats(ggml_context* context, int64_t ne0, int64_t ne1 = 1, int64_t ne2 = 1, int64_t ne3 = 1) {
  return ggml_new_tensor_4d(context, GGML_TYPE_F32, ne0, ne1, ne2, ne3);
}

TEST(backend_row_steps_equal_ggml) {
  for (const int64_t n_rows : {1, 3, 200}) {
    for (const int64_t n : {5, 64, 300}) {
      check({[&](ggml_context* c) { return ggml_rms_norm(c, floats(c, n, n_rows), 1e-5f); }, fill_randomly}, 1e-6f);
      check({[&](ggml_context* c) { return ggml_mul(c, floats(c, n, n_rows), floats(c, n)); }, fill_randomly}, 0.0f);
      check({[&](ggml_context* c) { return ggml_add(c, floats(c, n, n_rows), floats(c, n, n_rows)); }, fill_randomly},
            0.0f);
      check({[&](ggml_context* c) { return ggml_swiglu_split(c, floats(c, n, n_rows), floats(c, n, n_rows)); },
             fill_randomly},
            2e-6f);
      check({[&](ggml_context* c) { return ggml_geglu_erf_split(c, floats(c, n, n_rows), floats(c, n, n_rows)); },
             fill_randomly},
            2e-6f);
      check({[&](ggml_context* c) { return ggml_scale(c, floats(c, n, n_rows), 1.0f / 1.05f); }, fill_randomly}, 0.0f);
    }
  }
}

TEST(backend_rope_equals_ggml) {
  for (const int64_t n_tokens : {1, 5, 70}) {
    for (const int n_dims : {32, 64}) {  // a head of 64: all of it is rotated, or half
      const Case test = {[&](ggml_context* c) {
                           ggml_tensor* positions = ggml_new_tensor_1d(c, GGML_TYPE_I32, n_tokens);
                           return ggml_rope_ext(c, floats(c, 64, 6, n_tokens), positions, nullptr, n_dims, 0, 4096,
                                                10000.0f, 0.5f, 0.0f, 1.25f, 32.0f, 1.0f);
                         },
                         [&](ggml_context* c) {
                           fill_randomly(c);
                           for (ggml_tensor* t = ggml_get_first_tensor(c); t; t = ggml_get_next_tensor(c, t)) {
                             auto* positions = static_cast<int32_t*>(t->data);
                             for (int64_t i = 0; t->type == GGML_TYPE_I32 && i < n_tokens; ++i) {
                               positions[i] = static_cast<int32_t>(3 + 29 * i);
                             }
                           }
                         }};
      check(test, 3e-4f);  // observed 1e-4 at position 2000: ggml computes angles in f32, we in double
    }
  }
}

TEST(backend_writes_rows_of_the_cache_as_ggml) {
  for (const int64_t n_rows : {1, 4, 130}) {
    const Case test = {[&](ggml_context* c) {
                         ggml_tensor* cache = ggml_new_tensor_2d(c, GGML_TYPE_F16, 80, 300);
                         ggml_tensor* cells = ggml_new_tensor_1d(c, GGML_TYPE_I64, n_rows);
                         return ggml_set_rows(c, cache, floats(c, 80, n_rows), cells);
                       },
                       [&](ggml_context* c) {
                         fill_randomly(c);
                         for (ggml_tensor* t = ggml_get_first_tensor(c); t; t = ggml_get_next_tensor(c, t)) {
                           auto* cells = static_cast<int64_t*>(t->data);
                           for (int64_t i = 0; t->type == GGML_TYPE_I64 && i < n_rows; ++i) cells[i] = 7 * i % 300;
                         }
                       }};
    CHECK(solve(test, 0) == solve(test, 1));
    CHECK(solve(test, 0) == solve(test, 3));
  }
}

struct AttentionCase {
  int64_t head_size, n_head, n_head_kv, n_queries, n_cells, n_streams;
  int64_t n_others = 0;            // cells before, of other conversations
  bool has_mask_per_head = false;  // with what CPM-Bee adds to scores
};

// As llama.cpp builds it: queries permuted from [n_tokens, n_head, head_size], keys and values likewise from the cache.
ggml_tensor* build_attention(ggml_context* c, const AttentionCase& a) {
  ggml_tensor* query = ggml_permute(c, floats(c, a.head_size, a.n_head, a.n_queries, a.n_streams), 0, 2, 1, 3);
  const auto cache = [&] {
    return ggml_permute(c, ggml_new_tensor_4d(c, GGML_TYPE_F16, a.head_size, a.n_head_kv, a.n_cells, a.n_streams), 0, 2,
                        1, 3);
  };
  ggml_tensor* keys = cache();
  ggml_tensor* values = cache();
  ggml_tensor* mask =
      ggml_new_tensor_4d(c, GGML_TYPE_F16, a.n_cells, a.n_queries, a.has_mask_per_head ? a.n_head : 1, a.n_streams);
  ggml_set_name(mask, "mask");
  return ggml_flash_attn_ext(c, query, keys, values, mask, 0.125f, 0.0f, 0.0f);
}

// A prompt after n_cells - n_queries - 5 cells of its past; of these every seventh is hidden and those of others, and
// the last five are empty.
void fill_attention(ggml_context* c, const AttentionCase& a) {
  fill_randomly(c);
  ggml_tensor* mask = ggml_get_tensor(c, "mask");
  auto* half = static_cast<ggml_fp16_t*>(mask->data);
  const ggml_fp16_t hidden = ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity()), seen = ggml_fp32_to_fp16(0.0f);
  for (int64_t i = 0; i < ggml_nelements(mask); ++i) {
    const int64_t cell = i % a.n_cells, query = i / a.n_cells % a.n_queries, past = a.n_cells - a.n_queries - 5;
    const bool is_hidden = cell > past + query || cell < a.n_others || (cell < past && cell % 7 == 3);
    if (is_hidden || !a.has_mask_per_head) half[i] = is_hidden ? hidden : seen;
  }
}

TEST(backend_attention_equals_ggml) {
  constexpr AttentionCase CASES[] = {
      {64, 4, 4, 1, 40, 1},          {128, 8, 2, 1, 300, 1},        {64, 4, 4, 10, 256, 1},
      {64, 4, 4, 3, 64, 2},          {64, 4, 4, 17, 64, 1},         {128, 8, 2, 70, 200, 1},
      {80, 4, 4, 200, 256, 1},       {64, 4, 2, 33, 64, 3},         {128, 2, 1, 129, 700, 1},
      {64, 4, 4, 8, 900, 1, 600},    {64, 4, 2, 40, 900, 1, 600},   {64, 4, 4, 3, 90, 1, 20, true},
      {64, 4, 2, 2, 90, 1, 0, true}, {64, 4, 4, 40, 90, 1, 0, true}};
  for (const AttentionCase& a : CASES) {
    check({[&](ggml_context* c) { return build_attention(c, a); }, [&](ggml_context* c) { fill_attention(c, a); }},
          4e-3f);  // observed 1e-3: ggml sums the values in f16
  }
}

TEST(backend_refuses_what_its_steps_do_not_know) {
  const std::unique_ptr<ggml_context, FreeContext> owner(ggml_init({64 * ggml_tensor_overhead(), nullptr, true}));
  ggml_context* c = owner.get();
  const auto is_refused = [](ggml_tensor* node) { return operation_for(*node) == nullptr; };
  CHECK(is_refused(ggml_geglu_split(c, floats(c, 64), floats(c, 64))));
  CHECK(is_refused(ggml_swiglu(c, floats(c, 64))));
  CHECK(is_refused(ggml_scale_bias(c, floats(c, 64), 2.0f, 1.0f)));
  CHECK(is_refused(ggml_mul(c, floats(c, 64, 4), floats(c, 1, 4))));
  CHECK(is_refused(ggml_rms_norm(c, ggml_transpose(c, floats(c, 64, 4)), 1e-5f)));
  ggml_tensor* positions = ggml_new_tensor_1d(c, GGML_TYPE_I32, 4);
  const auto rope = [&](int mode, float extrapolation, ggml_tensor* factors) {
    return ggml_rope_ext(c, floats(c, 64, 2, 4), positions, factors, 64, mode, 4096, 1e4f, 1.0f, extrapolation, 1.0f,
                         32.0f, 1.0f);
  };
  CHECK(!is_refused(rope(0, 0.0f, nullptr)));
  CHECK(is_refused(rope(GGML_ROPE_TYPE_NEOX, 0.0f, nullptr)));
  CHECK(is_refused(rope(0, 1.0f, nullptr)));
  CHECK(is_refused(rope(0, 0.0f, floats(c, 32))));
  ggml_tensor* bf16 = ggml_new_tensor_2d(c, GGML_TYPE_BF16, 64, 8);
  CHECK(is_refused(ggml_set_rows(c, bf16, floats(c, 64, 4), ggml_new_tensor_1d(c, GGML_TYPE_I64, 4))));
  ggml_tensor* keys = ggml_new_tensor_4d(c, GGML_TYPE_F16, 64, 32, 4, 1);
  CHECK(!is_refused(ggml_flash_attn_ext(c, floats(c, 64, 1, 4), keys, keys, nullptr, 1.0f, 0.0f, 0.0f)));
  CHECK(is_refused(ggml_flash_attn_ext(c, floats(c, 64, 1, 4), keys, keys, nullptr, 1.0f, 0.0f, 30.0f)));
  ggml_tensor* q8 = ggml_new_tensor_4d(c, GGML_TYPE_Q8_0, 64, 32, 4, 1);
  CHECK(is_refused(ggml_flash_attn_ext(c, floats(c, 64, 1, 4), q8, q8, nullptr, 1.0f, 0.0f, 0.0f)));
}

// Until a stream has computed a product it takes no other step: llama.cpp probes for flash attention, and a model
// without packed weights would gain nothing.
TEST(backend_takes_steps_only_after_products) {
  const std::unique_ptr<ggml_backend, FreeBackend> stream(
      ggml_backend_dev_init(palo::backend::weight_device(), nullptr));
  const std::unique_ptr<ggml_context, FreeContext> owner(ggml_init({8 * ggml_tensor_overhead(), nullptr, true}));
  const ggml_tensor* sum = ggml_add(owner.get(), floats(owner.get(), 64), floats(owner.get(), 64));
  CHECK(!ggml_backend_supports_op(stream.get(), sum));
  CHECK(!ggml_backend_dev_supports_op(palo::backend::weight_device(), sum));
}

}  // namespace
