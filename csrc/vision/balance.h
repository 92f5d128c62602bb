// A LayerNorm's weights and the columns of the layer behind it mean the same scaled against each other. Columns of
// equal size lose least to the int8 weights' scales, and then the largest inputs are those that matter most to the
// outputs: where they are outliers, they are added in f32 (kernels/outliers.h). Differs from SmoothQuant (arXiv
// 2211.10438), which halves outliers between inputs and weights: here the inputs' are handled apart. Done once at load;
// costs nothing afterwards.
#pragma once

#include "kernels/linear.h"

namespace palo {

// Multiplies `norm` [n] by column_sizes [n], the root mean squares of the columns behind it, and returns what they are
// to be multiplied with in turn.
Buffer balance(LayerNormWeights& norm, const Buffer& column_sizes, int64_t n);

}  // namespace palo
