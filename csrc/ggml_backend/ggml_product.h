// A product by ggml's own CPU backend: what our kernels are held against.
#pragma once

#include <ggml-backend.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <vector>

namespace palo::backend {

struct TimedProduct {
  std::vector<float> out;  // [n_rows, n_out]; empty where ggml could not be set to work
  double elapsed_s = 0;
};

// x [n_rows, n_in] times w [n_out, n_in], given as the file's blocks, on one thread; weights lie as llama.cpp would lay
// them if it were not for us, in AMX tiles only where that is asked for.
TimedProduct multiply_by_ggml(ggml_type type, const std::vector<uint8_t>& w, const std::vector<float>& x, int64_t n_in,
                              bool with_amx);

// n rows of blocks, of numbers that need no seed and are the same everywhere. Quantizing takes longer than what is
// timed here, so few rows are, and repeated.
std::vector<uint8_t> draw_weights(ggml_type type, int64_t n_in, int64_t n_out);

// Numbers in [-1, 1), likewise.
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

// The buffer types, beyond the plain one, that ggml's CPU backend lays weights out in; null-terminated. The first call
// decides for the process which there are.
ggml_backend_buffer_type_t* extra_buffer_types();

// Whether it is the one of AMX tiles.
bool is_amx(ggml_backend_buffer_type_t type);

}  // namespace palo::backend
