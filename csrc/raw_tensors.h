// Tensors of a file as Python hands them over: views of the mapped file.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <tuple>
#include <vector>

#include "vision/tensor_reader.h"

namespace palo {

// One entry of the dictionary of tensors: (ggml type, shape row-major, bytes).
inline RawTensor to_raw_tensor(nanobind::handle entry) {
  using Bytes = nanobind::ndarray<const uint8_t, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;
  const auto [type, shape, data] = nanobind::cast<std::tuple<int, std::vector<int64_t>, Bytes>>(entry);
  return {
      .type = type, .shape = shape, .data = reinterpret_cast<const std::byte*>(data.data()), .n_bytes = data.size()};
}

inline TensorMap to_tensor_map(const nanobind::dict& tensors) {
  TensorMap result;
  for (const auto& [name, entry] : tensors) {
    result.emplace(nanobind::cast<std::string>(name), to_raw_tensor(entry));
  }
  return result;
}

}  // namespace palo
