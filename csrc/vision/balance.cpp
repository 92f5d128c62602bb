#include "vision/balance.h"

#include <cmath>

namespace palo {

Buffer balance(LayerNormWeights& norm, const Buffer& column_sizes, int64_t n) {
  Buffer scales(n);
  for (int64_t i = 0; i < n; ++i) {
    const float scale = 1.0f / column_sizes.data()[i];
    scales.data()[i] = std::isnormal(scale) ? scale : 1.0f;  // a column of zeros or of extreme size stays as it is
    norm.weight.data()[i] /= scales.data()[i];
    norm.bias.data()[i] /= scales.data()[i];
  }
  return scales;
}

}  // namespace palo
