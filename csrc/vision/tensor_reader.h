// Tensors of an mmproj file as raw blocks, and their way to packed f32 weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernels/threaded.h"

namespace palo {

// A tensor as it lies in the file; the memory belongs to the caller and is only read while loading.
struct RawTensor {
  int type = 0;                // ggml_type
  std::vector<int64_t> shape;  // row-major, outermost first (ggml's ne reversed)
  const std::byte* data = nullptr;
  size_t n_bytes = 0;
};

using TensorMap = std::map<std::string, RawTensor>;

// Reads tensors by name. Every method throws FormatError where the tensor is absent, has another shape, a type other
// than f32, f16, bf16, q8_0 and q4_0, a number of bytes that contradicts its shape, or holds values that are no
// numbers.
class TensorReader {
 public:
  TensorReader(const TensorMap& tensors, const Compute& compute) : tensors_(tensors), compute_(compute) {}

  bool has(const std::string& name) const { return tensors_.contains(name); }

  // The shape without dimensions of size 1: converters disagree on whether a [C, 1, 3, 3] is written as [C, 3, 3].
  std::vector<int64_t> squeezed_shape(const std::string& name) const;

  // Size of one dimension of squeezed_shape, which must have n_dims of them.
  int64_t dimension(const std::string& name, size_t n_dims, size_t which) const;

  // All values, row-major; shape without dimensions of size 1.
  Buffer values(const std::string& name, const std::vector<int64_t>& shape) const;

  // `prefix`.weight [n_out, n_in] (further dimensions of n_in may be apart: a convolution) and `prefix`.bias [n_out].
  LinearWeights linear(const std::string& prefix, int64_t n_out, int64_t n_in, bool has_bias) const;

  // `prefix`.weight [n] and `prefix`.bias [n].
  LayerNormWeights layer_norm(const std::string& prefix, int64_t n) const;

  // `name` [n_channels, 3, 3] -> [9, n_channels], channels last.
  Buffer depthwise(const std::string& name, int64_t n_channels) const;

 private:
  const RawTensor& at(const std::string& name) const;
  const RawTensor& with_size(const std::string& name, const std::vector<int64_t>& shape, bool join_inputs) const;

  const TensorMap& tensors_;
  const Compute& compute_;
};

}  // namespace palo
