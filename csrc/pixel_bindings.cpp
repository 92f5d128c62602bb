#include "pixel_bindings.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string>

#include "kernels/kernel_table.h"
#include "kernels/pixel_kernels.h"
#include "numpy_array.h"

namespace nb = nanobind;

namespace palo {
namespace {

using Pixels = nb::ndarray<const uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

[[noreturn]] void fail(const std::string& what, const std::string& expected, int64_t got) {
  throw std::invalid_argument(what + ": expected " + expected + ", got " + std::to_string(got) +
                              "; pass what palo_cpp.vision.resampling computes");
}

void check_equal(const char* what, int64_t expected, size_t got) {
  if (static_cast<int64_t>(got) != expected) fail(what, std::to_string(expected), static_cast<int64_t>(got));
}

// The farthest that a sum of output o can get from 0, in whatever order it is built.
int64_t largest_sum(const Resampling& resampling, int64_t o) {
  int64_t weight = 0, base = 0;
  for (int64_t t = 0; t < resampling.n_taps; ++t) {
    weight += std::abs(int64_t{resampling.coefficients[o * resampling.n_taps + t]});
  }
  for (int64_t c = 0; c < PIXEL_BYTES; ++c) {
    base = std::max(base, std::abs(int64_t{resampling.base[o * PIXEL_BYTES + c]}));
  }
  return 255 * weight + base;
}

// Every pixel that is read is one of n_in, and no sum leaves int32.
void check_resampling(const Resampling& resampling, int64_t n_in) {
  if (resampling.n_out < 1) fail("starts", "at least 1", resampling.n_out);
  if (resampling.n_taps < 1) fail("taps", "at least 1", resampling.n_taps);
  if (resampling.n_taps > n_in) fail("taps", "at most " + std::to_string(n_in), resampling.n_taps);
  const int64_t last = n_in - resampling.n_taps, largest = std::numeric_limits<int32_t>::max();
  for (int64_t o = 0; o < resampling.n_out; ++o) {
    const int64_t start = resampling.starts[o], sum = largest_sum(resampling, o);
    if (start < 0 || start > last) fail("starts", "0 to " + std::to_string(last), start);
    if (sum > largest) fail("sums", "at most " + std::to_string(largest), sum);
  }
}

nb::ndarray<nb::numpy, uint8_t> resample(const Pixels& pixels, int axis, const Integers& starts,
                                         const IntegerMatrix& coefficients, const IntegerMatrix& base) {
  if (axis != 0 && axis != 1) fail("axis", "0 or 1", axis);
  check_equal("bytes of a pixel", PIXEL_BYTES, pixels.shape(2));
  const auto n_out = static_cast<int64_t>(starts.size());
  if (pixels.size() == 0) fail("pixels", "at least 1", 0);
  check_equal("rows of coefficients", n_out, coefficients.shape(0));
  check_equal("rows of base", n_out, base.shape(0));
  check_equal("columns of base", PIXEL_BYTES, base.shape(1));
  const Resampling resampling{starts.data(), coefficients.data(), base.data(), n_out,
                              static_cast<int64_t>(coefficients.shape(1))};
  check_resampling(resampling, static_cast<int64_t>(pixels.shape(axis)));
  std::vector<size_t> shape = {pixels.shape(0), pixels.shape(1), pixels.shape(2)};
  shape[axis] = starts.size();
  auto out = new_array<uint8_t>(shape);
  const nb::gil_scoped_release release;
  const PixelKernels& run = *kernels().pixels;
  const auto n_rows = static_cast<int64_t>(pixels.shape(0)), n_columns = static_cast<int64_t>(pixels.shape(1));
  if (axis == 0) {
    run.resample_across(out.data(), pixels.data(), resampling, n_columns);
  } else {
    run.resample_along(out.data(), pixels.data(), resampling, n_rows, n_columns);
  }
  return out;
}

}  // namespace

void bind_pixels(nb::module_& m) {
  m.def("resample", &resample, nb::arg("pixels").noconvert(), nb::arg("axis"), nb::arg("starts").noconvert(),
        nb::arg("coefficients").noconvert(), nb::arg("base").noconvert(),
        "pixels uint8 [rows, columns, 4], of which axis 0 or 1 becomes n_out; starts int32 [n_out], coefficients int32 "
        "[n_out, n_taps] and base int32 [n_out, 4] as palo_cpp.vision.resampling computes them; on the calling thread. "
        "Raises ValueError for one that would read outside the pixels or whose sums leave 32 bits.");
}

}  // namespace palo
