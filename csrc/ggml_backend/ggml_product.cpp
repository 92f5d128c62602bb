#include "ggml_backend/ggml_product.h"

#include <ggml-alloc.h>
#include <ggml-cpp.h>

#include <cstring>

namespace palo::backend {
namespace {

ggml_context_ptr new_context(size_t n_bytes) {
  return ggml_context_ptr(ggml_init({n_bytes, nullptr, true}));
}

ggml_backend_buffer_type_t best_buffer_type(ggml_backend_dev_t cpu, ggml_tensor* w, const ggml_tensor* product,
                                            bool with_amx) {
  for (ggml_backend_buffer_type_t* extra = extra_buffer_types(); *extra != nullptr; ++extra) {
    if (!with_amx && is_amx(*extra)) continue;
    const ggml_backend_buffer_ptr empty(ggml_backend_buft_alloc_buffer(*extra, 0));
    w->buffer = empty.get();
    const bool is_supported = ggml_backend_dev_supports_op(cpu, product);
    w->buffer = nullptr;
    if (is_supported) return *extra;
  }
  return ggml_backend_dev_buffer_type(cpu);
}

template <typename Function>
Function cpu_function(const char* name) {
  const ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  return reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), name));
}

}  // namespace

TimedProduct multiply_by_ggml(ggml_type type, const std::vector<uint8_t>& weights, const std::vector<float>& x,
                              int64_t n_in, bool with_amx) {
  const int64_t n_rows = static_cast<int64_t>(x.size()) / n_in;
  const int64_t n_out = static_cast<int64_t>(weights.size() / ggml_row_size(type, n_in));
  const ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  const ggml_backend_ptr stream(ggml_backend_dev_init(cpu, nullptr));
  const auto set_n_threads = cpu_function<ggml_backend_set_n_threads_t>("ggml_backend_set_n_threads");
  const ggml_context_ptr of_w = new_context(8 * ggml_tensor_overhead()),
                         of_rest = new_context(8 * ggml_tensor_overhead());
  const ggml_context_ptr of_graph = new_context(ggml_graph_overhead());
  if (!stream || set_n_threads == nullptr || !of_w || !of_rest || !of_graph) return {};
  set_n_threads(stream.get(), 1);

  ggml_tensor* w = ggml_new_tensor_2d(of_w.get(), type, n_in, n_out);
  ggml_tensor* inputs = ggml_new_tensor_2d(of_rest.get(), GGML_TYPE_F32, n_in, n_rows);
  ggml_tensor* product = ggml_mul_mat(of_rest.get(), w, inputs);
  const ggml_backend_buffer_type_t best = best_buffer_type(cpu, w, product, with_amx);
  const ggml_backend_buffer_ptr of_weights(ggml_backend_alloc_ctx_tensors_from_buft(of_w.get(), best));
  const ggml_backend_buffer_ptr of_others(
      ggml_backend_alloc_ctx_tensors_from_buft(of_rest.get(), ggml_backend_dev_buffer_type(cpu)));
  if (!of_weights || !of_others) return {};
  ggml_backend_tensor_set(w, weights.data(), 0, weights.size());
  ggml_backend_tensor_set(inputs, x.data(), 0, ggml_nbytes(inputs));
  ggml_cgraph* graph = ggml_new_graph(of_graph.get());
  ggml_build_forward_expand(graph, product);

  const double elapsed_s = quickest([&] { ggml_backend_graph_compute(stream.get(), graph); });
  std::vector<float> out(static_cast<size_t>(n_rows * n_out));
  ggml_backend_tensor_get(product, out.data(), 0, ggml_nbytes(product));
  return {out, elapsed_s};
}

std::vector<float> draw(int64_t n) {
  std::vector<float> values(static_cast<size_t>(n));
  uint32_t state = 1;
  for (float& value : values) {  // Numerical Recipes, "quick and dirty" generator
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
  return values;
}

std::vector<uint8_t> draw_weights(ggml_type type, int64_t n_in, int64_t n_out) {
  constexpr int64_t N_DIFFERENT = 4;
  const std::vector<float> values = draw(N_DIFFERENT * n_in);
  const size_t part = N_DIFFERENT * ggml_row_size(type, n_in);
  std::vector<uint8_t> rows(static_cast<size_t>(n_out / N_DIFFERENT) * part);
  ggml_quantize_chunk(type, values.data(), rows.data(), 0, N_DIFFERENT, n_in, nullptr);
  for (size_t at = part; at < rows.size(); at += part) std::memcpy(rows.data() + at, rows.data(), part);
  return rows;
}

ggml_backend_buffer_type_t* extra_buffer_types() {
  static ggml_backend_buffer_type_t none = nullptr;
  const auto get = cpu_function<ggml_backend_dev_get_extra_bufts_t>("ggml_backend_dev_get_extra_bufts");
  ggml_backend_buffer_type_t* types =
      get != nullptr ? get(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)) : nullptr;
  return types != nullptr ? types : &none;
}

bool is_amx(ggml_backend_buffer_type_t type) {
  return std::strcmp(ggml_backend_buft_name(type), "AMX") == 0;
}

}  // namespace palo::backend
