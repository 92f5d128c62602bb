// What the two files of bindings share: array types and checks.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <string>
#include <vector>

namespace nb = nanobind;

namespace palo {

using FloatArray = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using NumpyArray = nb::ndarray<nb::numpy, float>;

// "3, 336, 336"
std::string join(const std::vector<int64_t>& sizes);

// A new array that owns its memory; the values are whatever was there.
NumpyArray new_array(const std::vector<size_t>& shape);

void bind_kernels(nb::module_& m);

}  // namespace palo
