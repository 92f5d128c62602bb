// Results as numpy arrays, for both Python modules.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <functional>
#include <memory>
#include <numeric>
#include <vector>

namespace palo {

using NumpyArray = nanobind::ndarray<nanobind::numpy, float>;

// A new array that owns its memory, with arbitrary values. The caller checks that the product of `shape` fits.
inline NumpyArray new_array(const std::vector<size_t>& shape) {
  auto data = std::make_unique_for_overwrite<float[]>(
      std::accumulate(shape.begin(), shape.end(), size_t{1}, std::multiplies<>()));
  float* values = data.get();
  nanobind::capsule owner(data.release(), [](void* memory) noexcept { delete[] static_cast<float*>(memory); });
  return NumpyArray(values, shape.size(), shape.data(), owner);
}

}  // namespace palo
