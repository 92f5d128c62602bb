// A product by ggml's own CPU backend, with which our kernels are compared.
#pragma once

#include <ggml-backend.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <vector>

namespace palo::backend {

struct TimedProduct {
  std::vector<float> out;  // [n_rows, n_out]; empty if ggml could not compute it
  double elapsed_s = 0;
};

// x [n_rows, n_in] times w [n_out, n_in], given as the file's blocks, on one thread; the weights have the layout that
// llama.cpp would choose without this backend, AMX tiles only with with_amx.
TimedProduct multiply_by_ggml(ggml_type type, const std::vector<uint8_t>& w, const std::vector<float>& x, int64_t n_in,
                              bool with_amx);

// n_out rows of blocks, quantized from numbers that are the same on every machine. Quantizing takes longer than the
// products that are timed, so only a few rows are quantized, and repeated.
std::vector<uint8_t> draw_weights(ggml_type type, int64_t n_in, int64_t n_out);

// n numbers in [-1, 1), the same on every machine.
std::vector<float> draw(int64_t n);

// Seconds of the quickest of several calls, the first of which is a warm-up.
template <typename Work>
double quickest(const Work& work) {
  using Clock = std::chrono::steady_clock;
  constexpr int N_REPEATS = 5;
  double best = INFINITY;
  for (int i = 0; i <= N_REPEATS; ++i) {
    const auto start = Clock::now();
    work();
    const double elapsed_s = std::chrono::duration<double>(Clock::now() - start).count();
    if (i > 0) best = best < elapsed_s ? best : elapsed_s;
  }
  return best;
}

// The buffer types in which ggml's CPU backend lays out weights, other than the plain one; null-terminated. The first
// call fixes the list for the process.
ggml_backend_buffer_type_t* extra_buffer_types();

// Whether it is the one of AMX tiles.
bool is_amx(ggml_backend_buffer_type_t type);

}  // namespace palo::backend
