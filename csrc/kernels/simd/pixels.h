// Resampling of 8-bit pixels (pixel_kernels.h): 16 lanes are the bytes of four pixels.
#pragma once

namespace palo::PALO_SIMD_ISA {
namespace {

constexpr int64_t LANE_PIXELS = LANES / PIXEL_BYTES;

// The n first of 16 bytes, zeros in the other lanes.
PALO_INLINE Ints load_first_bytes(const uint8_t* p, int64_t n) {
  uint8_t bytes[LANES] = {};
  for (int64_t i = 0; i < n; ++i) bytes[i] = p[i];
  return load_bytes(bytes);
}

PALO_INLINE void store_first_levels(uint8_t* p, Ints x, int64_t n) {
  uint8_t levels[LANES];
  store_levels(levels, x);
  for (int64_t i = 0; i < n; ++i) p[i] = levels[i];
}

// sums[r] += the taps of row r, four at a time in four lanes each. What is left over are the last four once more, those
// that are in the sums already with weight 0; only an image less than four pixels wide has fewer.
template <int64_t N>
PALO_INLINE void add_taps(Ints sums[N], const uint8_t* in, int64_t row_bytes, const int32_t* taps, int64_t n_taps) {
  int64_t t = 0;
  for (; t + LANE_PIXELS <= n_taps; t += LANE_PIXELS) {
    const Ints weights = load_spread(taps + t);
    for (int64_t r = 0; r < N; ++r) {
      sums[r] = sums[r] + weights * load_bytes(in + r * row_bytes + t * PIXEL_BYTES);
    }
  }
  if (t == n_taps) return;
  const bool is_narrow = n_taps < LANE_PIXELS;
  const int64_t begin = is_narrow ? 0 : n_taps - LANE_PIXELS;
  int32_t last[LANE_PIXELS] = {};
  for (int64_t i = t; i < n_taps; ++i) last[i - begin] = taps[i];
  const Ints weights = load_spread(last);
  for (int64_t r = 0; r < N; ++r) {
    const uint8_t* pixels = in + r * row_bytes + begin * PIXEL_BYTES;
    sums[r] = sums[r] + weights * (is_narrow ? load_first_bytes(pixels, n_taps * PIXEL_BYTES) : load_bytes(pixels));
  }
}

// Output o of N rows, at most four: a tap's weight is loaded once for all of them.
template <int64_t N>
PALO_INLINE void resample_rows(uint8_t* out, const uint8_t* in, const Resampling& resampling, int64_t o, int64_t n_in) {
  Ints sums[N];
  for (int64_t r = 0; r < N; ++r) sums[r] = set_ints(0);
  add_taps<N>(sums, in + resampling.starts[o] * PIXEL_BYTES, n_in * PIXEL_BYTES,
              resampling.coefficients + o * resampling.n_taps, resampling.n_taps);
  int32_t pixels[LANES] = {};  // [N, PIXEL_BYTES]
  for (int64_t r = 0; r < N; ++r) {
    int32_t lanes[LANES];
    store_ints(reinterpret_cast<uint8_t*>(lanes), sums[r]);
    for (int64_t c = 0; c < PIXEL_BYTES; ++c) {
      pixels[r * PIXEL_BYTES + c] =
          resampling.base[o * PIXEL_BYTES + c] + lanes[c] + lanes[c + 4] + lanes[c + 8] + lanes[c + 12];
    }
  }
  uint8_t levels[LANES];
  store_levels(levels, load_ints(reinterpret_cast<const uint8_t*>(pixels)));
  for (int64_t r = 0; r < N; ++r) {
    __builtin_memcpy(out + (r * resampling.n_out + o) * PIXEL_BYTES, levels + r * PIXEL_BYTES, PIXEL_BYTES);
  }
}

void resample_along(uint8_t* out, const uint8_t* in, const Resampling& resampling, int64_t n_rows, int64_t n_in) {
  constexpr int64_t N = 4;
  const int64_t in_bytes = n_in * PIXEL_BYTES, out_bytes = resampling.n_out * PIXEL_BYTES;
  int64_t y = 0;
  for (; y + N <= n_rows; y += N) {
    for (int64_t o = 0; o < resampling.n_out; ++o) {
      resample_rows<N>(out + y * out_bytes, in + y * in_bytes, resampling, o, n_in);
    }
  }
  for (; y < n_rows; ++y) {
    for (int64_t o = 0; o < resampling.n_out; ++o) {
      resample_rows<1>(out + y * out_bytes, in + y * in_bytes, resampling, o, n_in);
    }
  }
}

// All outputs of the n bytes of each row from byte x on: N vectors, or part of one.
template <int64_t N>
PALO_INLINE void resample_columns(uint8_t* out, const uint8_t* in, const Resampling& resampling, int64_t row_bytes,
                                  int64_t x, int64_t n) {
  const bool is_whole = n == N * LANES;
  for (int64_t o = 0; o < resampling.n_out; ++o) {
    int32_t base[LANES];
    for (int64_t i = 0; i < LANES; ++i) base[i] = resampling.base[o * PIXEL_BYTES + i % PIXEL_BYTES];
    Ints sums[N];
    for (int64_t i = 0; i < N; ++i) sums[i] = load_ints(reinterpret_cast<const uint8_t*>(base));
    const int32_t* taps = resampling.coefficients + o * resampling.n_taps;
    const uint8_t* from = in + resampling.starts[o] * row_bytes + x;
    for (int64_t t = 0; t < resampling.n_taps; ++t, from += row_bytes) {
      const Ints weight = set_ints(taps[t]);
      for (int64_t i = 0; i < N; ++i) {
        sums[i] = sums[i] + weight * (is_whole ? load_bytes(from + i * LANES) : load_first_bytes(from, n));
      }
    }
    uint8_t* to = out + o * row_bytes + x;
    for (int64_t i = 0; i < N; ++i) {
      is_whole ? store_levels(to + i * LANES, sums[i]) : store_first_levels(to, sums[i], n);
    }
  }
}

// Sixteen pixels at a time, which fill a line of the cache; the rest in single vectors, the last of which does some
// pixels again.
void resample_across(uint8_t* out, const uint8_t* in, const Resampling& resampling, int64_t n_columns) {
  constexpr int64_t N = 4;
  const int64_t row_bytes = n_columns * PIXEL_BYTES;
  int64_t x = 0;
  for (; x + N * LANES <= row_bytes; x += N * LANES) {
    resample_columns<N>(out, in, resampling, row_bytes, x, N * LANES);
  }
  for (; x + LANES <= row_bytes; x += LANES) resample_columns<1>(out, in, resampling, row_bytes, x, LANES);
  if (x == row_bytes) return;
  if (row_bytes >= LANES) {
    resample_columns<1>(out, in, resampling, row_bytes, row_bytes - LANES, LANES);
  } else {
    resample_columns<1>(out, in, resampling, row_bytes, 0, row_bytes);
  }
}

constexpr PixelKernels PIXEL_KERNELS = {.resample_along = resample_along, .resample_across = resample_across};

}  // namespace
}  // namespace palo::PALO_SIMD_ISA
