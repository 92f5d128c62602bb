#include "vision/wide_groups.h"

#include <algorithm>
#include <cmath>

#include "kernels/kernel_table.h"

namespace palo {
namespace {

double squared_maximum(const float* w, int64_t n) {
  float largest = 0.0f;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(w[i]));
  return double{largest} * largest;
}

}  // namespace

void WideGroups::add_row(const float* w, int64_t n_in) {
  for (int64_t i = 0; i < n_in; i += Q8_WIDE_GROUP) {
    const int64_t n = std::min(Q8_WIDE_GROUP, n_in - i);
    const double first = squared_maximum(w + i, std::min(Q8_GROUP, n));
    const double second = n > Q8_GROUP ? squared_maximum(w + i + Q8_GROUP, n - Q8_GROUP) : first;
    narrow_ += first + second;
    wide_ += 2.0 * std::max(first, second);
  }
}

}  // namespace palo
