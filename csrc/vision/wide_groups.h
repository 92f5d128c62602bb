// Whether weights allow Q8_WIDE_GROUP inputs per scale (kernels/kernel_table.h), which halve the time that
// scales cost and add to the rounding errors: a group's largest weight decides for twice as many others.
#pragma once

#include <cstdint>

namespace palo {

// How much wide groups add to the rounding errors of weights, by the squares of their scales.
class WideGroups {
 public:
  // w [n_in]: one output's weights.
  void add_row(const float* w, int64_t n_in);
  // True where the mean square of the errors grows by at most 40 %: by 18 % where weights are normally distributed, by
  // 28 % where their tails are exponential; a few large ones in each row come to 100 %.
  bool are_allowed() const { return wide_ <= 1.4 * narrow_; }

 private:
  double narrow_ = 0.0, wide_ = 0.0;  // sums of squared scales, a scale counted once per narrow group
};

}  // namespace palo
