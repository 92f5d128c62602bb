#include "ggml_backend/start_check.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "ggml_backend/packed_matrix.h"
#include "kernels/buffer.h"

namespace palo::backend {
namespace {

// Small enough for the second-level cache, so that arithmetic is compared and not the day's memory traffic; wide enough
// that a product takes much longer than the call of ggml's CPU backend around it.
constexpr int64_t N_IN = 1024, N_OUT = 512;
constexpr int64_t N_ROWS[] = {1, 32};
constexpr int N_REPEATS = 5;
// One row is bound by memory on a real matrix: there, arithmetic a little slower than ggml's costs nothing.
constexpr double LEAST_GAIN[] = {0.7, 1.0};
// Of the root mean square: both sides round their inputs to int8, ggml more coarsely under the K types. Observed 0.036
// at most; kernels that do not belong to the data are off by 1.
constexpr double TOLERANCE = 0.1;

template <typename T, void (*free)(T*)>
struct Freed {
  void operator()(T* p) const { free(p); }
};
using Context = std::unique_ptr<ggml_context, Freed<ggml_context, ggml_free>>;
using Memory = std::unique_ptr<ggml_backend_buffer, Freed<ggml_backend_buffer, ggml_backend_buffer_free>>;
using Stream = std::unique_ptr<ggml_backend, Freed<ggml_backend, ggml_backend_free>>;

// Random numbers that need no seed and are the same everywhere (Numerical Recipes, "quick and dirty" generator).
std::vector<float> draw(int64_t n) {
  std::vector<float> values(static_cast<size_t>(n));
  uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
  return values;
}

// N_OUT rows of blocks. Quantizing takes longer than all that is timed here, so few rows are, and repeated.
std::vector<uint8_t> draw_weights(ggml_type type) {
  constexpr int64_t N_DIFFERENT = 4;
  const std::vector<float> values = draw(N_DIFFERENT * N_IN);
  const size_t part = N_DIFFERENT * ggml_row_size(type, N_IN);
  std::vector<uint8_t> rows(N_OUT / N_DIFFERENT * part);
  ggml_quantize_chunk(type, values.data(), rows.data(), 0, N_DIFFERENT, N_IN, nullptr);
  for (size_t at = part; at < rows.size(); at += part) std::memcpy(rows.data() + at, rows.data(), part);
  return rows;
}

// Seconds of the quickest of several calls, the first of which is a warm-up.
template <typename Work>
double quickest(const Work& work) {
  using Clock = std::chrono::steady_clock;
  double best = INFINITY;
  for (int i = 0; i <= N_REPEATS; ++i) {
    const auto start = Clock::now();
    work();
    const double elapsed_s = std::chrono::duration<double>(Clock::now() - start).count();
    if (i > 0) best = std::min(best, elapsed_s);
  }
  return best;
}

struct Product {
  std::vector<float> out;
  double elapsed_s;
};

// The buffer type in which llama.cpp would put this weight if it were not for us.
ggml_backend_buffer_type_t best_buffer_type(ggml_backend_dev_t cpu, ggml_tensor* w, const ggml_tensor* product) {
  const auto get_extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), "ggml_backend_dev_get_extra_bufts"));
  ggml_backend_buffer_type_t* extra = get_extra != nullptr ? get_extra(cpu) : nullptr;
  for (; extra != nullptr && *extra != nullptr; ++extra) {
    const Memory empty(ggml_backend_buft_alloc_buffer(*extra, 0));
    w->buffer = empty.get();
    const bool is_supported = ggml_backend_dev_supports_op(cpu, product);
    w->buffer = nullptr;
    if (is_supported) return *extra;
  }
  return ggml_backend_dev_buffer_type(cpu);
}

// ggml's product; `out` stays empty where ggml could not be set to work.
Product multiply_by_ggml(ggml_type type, const std::vector<uint8_t>& weights, const std::vector<float>& x,
                         int64_t n_rows) {
  const ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  const Stream stream(ggml_backend_dev_init(cpu, nullptr));
  const auto set_n_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), "ggml_backend_set_n_threads"));
  const auto new_context = [] { return Context(ggml_init({8 * ggml_tensor_overhead(), nullptr, true})); };
  const Context of_w = new_context(), of_rest = new_context();
  const Context of_graph(ggml_init({ggml_graph_overhead(), nullptr, true}));
  if (!stream || set_n_threads == nullptr || !of_w || !of_rest || !of_graph) return {};
  set_n_threads(stream.get(), 1);

  ggml_tensor* w = ggml_new_tensor_2d(of_w.get(), type, N_IN, N_OUT);
  ggml_tensor* inputs = ggml_new_tensor_2d(of_rest.get(), GGML_TYPE_F32, N_IN, n_rows);
  ggml_tensor* product = ggml_mul_mat(of_rest.get(), w, inputs);
  const Memory of_weights(ggml_backend_alloc_ctx_tensors_from_buft(of_w.get(), best_buffer_type(cpu, w, product)));
  const Memory of_others(ggml_backend_alloc_ctx_tensors_from_buft(of_rest.get(), ggml_backend_cpu_buffer_type()));
  if (!of_weights || !of_others) return {};
  ggml_backend_tensor_set(w, weights.data(), 0, weights.size());
  ggml_backend_tensor_set(inputs, x.data(), 0, ggml_nbytes(inputs));
  ggml_cgraph* graph = ggml_new_graph(of_graph.get());
  ggml_build_forward_expand(graph, product);

  const double elapsed_s = quickest([&] { ggml_backend_graph_compute(stream.get(), graph); });
  std::vector<float> out(static_cast<size_t>(n_rows * N_OUT));
  ggml_backend_tensor_get(product, out.data(), 0, ggml_nbytes(product));
  return {out, elapsed_s};
}

Product multiply_by_us(const BlockKernels& kernels, const std::vector<uint8_t>& weights, const std::vector<float>& x,
                       int64_t n_rows) {
  const auto row_size = static_cast<int64_t>(weights.size()) / N_OUT;
  const PackedMatrix w{&kernels,
                       N_IN,
                       N_OUT,
                       row_size,
                       (N_OUT + kernels.panel_width - 1) / kernels.panel_width,
                       kernels.panel_bytes(N_IN)};
  ByteBuffer panels(w.n_bytes()), quantized(n_rows * kernels.row_bytes(N_IN));
  write_range(panels.data(), w, weights.data(), 0, static_cast<int64_t>(weights.size()), 1);
  std::vector<float> out(static_cast<size_t>(n_rows * N_OUT));
  const double elapsed_s = quickest([&] {
    kernels.quantize_rows(quantized.data(), x.data(), n_rows, N_IN, N_IN);
    kernels.multiply(out.data(), quantized.data(), panels.data(), n_rows, N_OUT, N_IN, N_OUT);
  });
  return {out, elapsed_s};
}

// Largest difference, in units of the root mean square of b.
double difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0, square = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - b[i]);
    largest = d > largest || std::isnan(d) ? d : largest;
    square += static_cast<double>(b[i]) * b[i];
  }
  return largest / std::sqrt(square / static_cast<double>(b.size()));
}

std::string in_words(const double* gains) {
  char text[96];
  std::snprintf(text, sizeof(text), "%.2f times ggml's speed on %d row, %.2f times on %d rows", gains[0],
                static_cast<int>(N_ROWS[0]), gains[1], static_cast<int>(N_ROWS[1]));
  return text;
}

}  // namespace

Verdict check_type(ggml_type type) {
  const BlockKernels& kernels = block_kernels(kernels_in_use(), *block_type(type));
  const std::vector<uint8_t> weights = draw_weights(type);
  double gains[2];
  for (int i = 0; i < 2; ++i) {
    const std::vector<float> x = draw(N_ROWS[i] * N_IN);
    const Product theirs = multiply_by_ggml(type, weights, x, N_ROWS[i]);
    if (theirs.out.empty()) return {false, "ggml's CPU backend could not be timed"};
    const Product ours = multiply_by_us(kernels, weights, x, N_ROWS[i]);
    if (!(difference(ours.out, theirs.out) <= TOLERANCE)) return {false, "results differ from ggml's"};
    gains[i] = theirs.elapsed_s / ours.elapsed_s;
  }
  return {gains[0] >= LEAST_GAIN[0] && gains[1] >= LEAST_GAIN[1], in_words(gains)};
}

}  // namespace palo::backend
