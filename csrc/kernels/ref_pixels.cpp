// The pixel kernels of the portable instruction set (pixel_kernels.h): plain loops.
#include <algorithm>

#include "kernels/pixel_kernels.h"
#include "kernels/ref.h"

namespace palo::ref {
namespace {

// Output o of one channel, whose taps are `step` bytes from each other.
uint8_t resample_one(const Resampling& resampling, int64_t o, int64_t channel, const uint8_t* first, int64_t step) {
  int32_t sum = resampling.base[o * PIXEL_BYTES + channel];
  for (int64_t t = 0; t < resampling.n_taps; ++t) {
    sum += resampling.coefficients[o * resampling.n_taps + t] * first[t * step];
  }
  return static_cast<uint8_t>(std::clamp(sum >> RESAMPLING_BITS, 0, 255));
}

void resample_along(uint8_t* out, const uint8_t* in, const Resampling& resampling, int64_t n_rows, int64_t n_in) {
  for (int64_t y = 0; y < n_rows; ++y) {
    for (int64_t o = 0; o < resampling.n_out; ++o) {
      const uint8_t* first = in + (y * n_in + resampling.starts[o]) * PIXEL_BYTES;
      for (int64_t c = 0; c < PIXEL_BYTES; ++c) *out++ = resample_one(resampling, o, c, first + c, PIXEL_BYTES);
    }
  }
}

void resample_across(uint8_t* out, const uint8_t* in, const Resampling& resampling, int64_t n_columns) {
  const int64_t row_bytes = n_columns * PIXEL_BYTES;
  for (int64_t o = 0; o < resampling.n_out; ++o) {
    const uint8_t* first = in + resampling.starts[o] * row_bytes;
    for (int64_t x = 0; x < row_bytes; ++x) *out++ = resample_one(resampling, o, x % PIXEL_BYTES, first + x, row_bytes);
  }
}

}  // namespace

const PixelKernels& pixel_kernels() {
  static constexpr PixelKernels KERNELS = {.resample_along = resample_along, .resample_across = resample_across};
  return KERNELS;
}

}  // namespace palo::ref
