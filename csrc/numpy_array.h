// Numpy arrays as arguments and as results, for both Python modules.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <functional>
#include <memory>
#include <numeric>
#include <vector>

namespace palo {

using NumpyArray = nanobind::ndarray<nanobind::numpy, float>;

// What functions take, without a copy.
using Integers = nanobind::ndarray<const int32_t, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;
using IntegerMatrix = nanobind::ndarray<const int32_t, nanobind::ndim<2>, nanobind::c_contig, nanobind::device::cpu>;

// A new array that owns its memory, with arbitrary values. The caller checks that the product of `shape` fits.
template <typename T = float>
nanobind::ndarray<nanobind::numpy, T> new_array(const std::vector<size_t>& shape) {
  auto data =
      std::make_unique_for_overwrite<T[]>(std::accumulate(shape.begin(), shape.end(), size_t{1}, std::multiplies<>()));
  T* values = data.get();
  nanobind::capsule owner(data.release(), [](void* memory) noexcept { delete[] static_cast<T*>(memory); });
  return {values, shape.size(), shape.data(), owner};
}

}  // namespace palo
