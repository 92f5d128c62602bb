// Moves scales from a LayerNorm's weights to the columns of the layer after it, which leaves the result the same.
// Columns of equal size lose least to the int8 weights' scales, and then the largest inputs are those that matter most
// to the outputs; if they are outliers, they are added in f32 (kernels/outliers.h). Differs from SmoothQuant (arXiv
// 2211.10438), which splits outliers between inputs and weights: here those of the inputs are handled separately. Done
// once while loading; costs nothing afterwards.
#pragma once

#include "kernels/linear.h"

namespace palo {

// Multiplies `norm` [n] by column_sizes [n], the root mean squares of the columns after it, and returns the factors by
// which these columns are to be multiplied.
Buffer balance(LayerNormWeights& norm, const Buffer& column_sizes, int64_t n);

}  // namespace palo
