// Outlier channels: columns of an int8 product's input that are many times larger than the rest. Each would cost the
// others of its group their resolution, so they are taken out of the int8 product and added in f32.
//
// The residual stream of a transformer has a few of them at every token (arXiv 2208.07339). They are determined for
// each image from its own rows only, so a batch gives the same results as its images one by one.
#pragma once

#include <array>

#include "kernels/compute.h"
#include "kernels/format.h"

namespace palo {

// If more channels are that large, the first ones are taken: an f32 product of 16 inputs costs 3 % of one of 1024.
constexpr int64_t MAX_OUTLIERS = 16;

struct Outliers {
  int64_t n = 0;
  std::array<int64_t, MAX_OUTLIERS> channels{};
};

// The outliers among the columns of sample [n_rows, n_cols].
Outliers find_outliers(const float* sample, int64_t n_rows, int64_t n_cols);

// Moves them from x [n_rows, n_cols] to values [n_rows, MAX_OUTLIERS] and leaves zeros.
void take_outliers(float* values, float* x, int64_t n_rows, int64_t n_cols, const Outliers& outliers);

// panels [outliers.n, n_out], f32: the weights of these inputs as the int8 panels, of format q8, hold them.
void unpack_outlier_weights(const Compute& compute, Buffer& panels, const Format& q8, const uint8_t* q8_panels,
                            int64_t n_out, int64_t n_in, const Outliers& outliers);

}  // namespace palo
