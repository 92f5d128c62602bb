// Reads the tensors of an mmproj file, raw blocks, and packs them as weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernels/linear.h"

namespace palo {

// A tensor as it lies in the file; the memory belongs to the caller and is only read while loading.
struct RawTensor {
  int type = 0;                // ggml_type
  std::vector<int64_t> shape;  // row-major, outermost first (ggml's ne reversed)
  const std::byte* data = nullptr;
  size_t n_bytes = 0;
};

using TensorMap = std::map<std::string, RawTensor>;

class RowDecoder;

// Inputs that share a scale of int8 weights. Wide ones are for q, k, v and ffn up, which take half of a tower's time
// and whose inputs a layer norm makes alike; elsewhere they cost more of the result than they save time.
enum class Groups { NARROW, WIDE_WHERE_ALLOWED };

// Reads tensors by name. Every method throws FormatError where the tensor is absent, has another shape, a type other
// than f32, f16, bf16, q8_0 and q4_0, a number of bytes that contradicts its shape, or holds values that are not
// finite.
class TensorReader {
 public:
  // is_file_mapping: the bytes lie in a file mapped read-only, whose pages may go back to the system after use.
  TensorReader(const TensorMap& tensors, const Compute& compute, Precision precision, bool is_file_mapping)
      : tensors_(tensors), compute_(compute), precision_(precision), is_file_mapping_(is_file_mapping) {}

  const KernelTable& kernels() const { return compute_.kernels; }

  // The shape without dimensions of size 1: converters disagree on whether a [C, 1, 3, 3] is written as [C, 3, 3].
  std::vector<int64_t> squeezed_shape(const std::string& name) const;

  // Size of one dimension of squeezed_shape, which must have n_dims of them.
  int64_t dimension(const std::string& name, size_t n_dims, size_t which) const;

  // All values, row-major; shape without dimensions of size 1.
  Buffer values(const std::string& name, const std::vector<int64_t>& shape) const;

  // `prefix`.weight [n_out, n_in] (further dimensions of n_in may be apart: a convolution) and `prefix`.bias [n_out].
  Linear linear(const std::string& prefix, int64_t n_out, int64_t n_in, bool has_bias) const;

  // Several of one shape [n_out, n_in] stacked as one: [prefixes * n_out, n_in]; the layer norm before it is balanced
  // with it, see balance.h.
  Linear linear_after(LayerNormWeights& norm, const std::vector<std::string>& prefixes, int64_t n_out, int64_t n_in,
                      Groups groups) const;

  // `prefix`.weight [n] and `prefix`.bias [n].
  LayerNormWeights layer_norm(const std::string& prefix, int64_t n) const;

  // `name` [n_channels, 3, 3] -> [9, n_channels], channels last.
  Buffer depthwise(const std::string& name, int64_t n_channels) const;

 private:
  const RawTensor& at(const std::string& name) const;
  const RawTensor& with_size(const std::string& name, const std::vector<int64_t>& shape, bool join_inputs) const;

  std::vector<RowDecoder> decoders(const std::vector<std::string>& prefixes, int64_t n_out, int64_t n_in) const;
  // column_scales [n_in] multiply the columns; or nullptr.
  Linear stacked_linear(const std::vector<std::string>& prefixes, int64_t n_out, int64_t n_in, bool has_bias,
                        const float* column_scales, Groups groups) const;
  void pack(Linear& linear, const std::vector<RowDecoder>& decoders, const float* column_scales) const;
  // The groups of int8 weights that these allow.
  Precision precision_of(const std::vector<RowDecoder>& decoders, int64_t n_out, int64_t n_in,
                         const float* column_scales) const;
  // Root mean square of each column, over some of the rows.
  Buffer column_sizes(const std::vector<RowDecoder>& decoders, int64_t n_out, int64_t n_in) const;
  Buffer stacked_values(const std::vector<std::string>& prefixes, int64_t n) const;
  void drop_pages(const RawTensor& tensor) const;

  const TensorMap& tensors_;
  const Compute compute_;
  const Precision precision_;
  const bool is_file_mapping_;
};

}  // namespace palo
