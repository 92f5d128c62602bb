#include "vision/tensor_reader.h"

#include <ggml.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#ifdef __unix__
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "vision/balance.h"
#include "vision/config.h"
#include "vision/wide_groups.h"

namespace palo {
namespace {

constexpr ggml_type SUPPORTED_TYPES[] = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0};

std::string describe(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

std::vector<int64_t> squeezed(const std::vector<int64_t>& shape) {
  std::vector<int64_t> result;
  std::copy_if(shape.begin(), shape.end(), std::back_inserter(result), [](int64_t size) { return size != 1; });
  return result;
}

int64_t n_elements(const std::vector<int64_t>& shape, const std::string& name) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1},
                         [&](int64_t product, int64_t size) { return checked_product(product, size, name); });
}

// out [n] = IEEE half precision numbers from p on, which need not be aligned. Plain integer operations, which the
// compiler vectorizes: ggml's own function looks up number by number in a table, which took 40 % of the time of
// loading.
void f16_to_f32(float* out, const std::byte* p, int64_t n) {
  constexpr uint32_t EXPONENT = 0x7c00u << 13;
  for (int64_t i = 0; i < n; ++i) {
    uint16_t half;
    std::memcpy(&half, p + 2 * i, sizeof(half));
    const uint32_t magnitude = (half & 0x7fffu) << 13, sign = (half & 0x8000u) << 16;
    // Read as f32 the exponent is 112 too small, also that of subnormal numbers; that of infinity and NaN must become
    // the largest again.
    const float value = std::bit_cast<float>(magnitude) * 0x1p112f;
    const uint32_t infinite = magnitude >= EXPONENT ? 0x7f800000u : 0u;
    out[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(value) | infinite | sign);
  }
}

// The exponent of infinity and NaN is all ones, and adding one to it carries into the sign bit.
bool is_finite(const float* values, int64_t n) {
  uint32_t bits = 0;
  for (int64_t i = 0; i < n; ++i) bits |= (std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu) + 0x00800000u;
  return bits >> 31 == 0;
}

}  // namespace

// Converts raw blocks of one type to f32, row by row.
class RowDecoder {
 public:
  // Throws FormatError where type, shape and number of bytes contradict each other.
  RowDecoder(const RawTensor& tensor, int64_t n_rows, int64_t n_cols, const std::string& name)
      : data_(tensor.data), n_cols_(n_cols), name_(name) {
    const auto* type = std::find(std::begin(SUPPORTED_TYPES), std::end(SUPPORTED_TYPES), tensor.type);
    if (type == std::end(SUPPORTED_TYPES)) {
      throw FormatError(name + ": expected type f32, f16, bf16, q8_0 or q4_0, got ggml type " +
                        std::to_string(tensor.type) + "; quantize the mmproj file to one of them");
    }
    type_ = *type;
    // Blocks lie along the innermost dimension of the file, which may be shorter than a row of ours.
    const int64_t block = ggml_blck_size(*type);
    if ((tensor.shape.empty() ? 1 : tensor.shape.back()) % block != 0 || n_cols % block != 0) {
      throw FormatError(name + ": expected rows of whole blocks of " + std::to_string(block) + " values, got shape " +
                        describe(tensor.shape) + "; the file is damaged, copy or convert it again");
    }
    row_bytes_ = static_cast<size_t>(n_cols / block) * ggml_type_size(*type);
    const int64_t n_bytes = checked_product(n_rows, static_cast<int64_t>(row_bytes_), name);
    if (static_cast<size_t>(n_bytes) != tensor.n_bytes) {
      throw FormatError(name + ": expected " + std::to_string(n_bytes) + " bytes for shape " + describe(tensor.shape) +
                        ", got " + std::to_string(tensor.n_bytes) + "; the file is damaged, copy or convert it again");
    }
  }

  // out [n_cols] = row r.
  void decode(float* out, int64_t r, std::vector<std::byte>& row) const {
    const std::byte* from = data_ + static_cast<size_t>(r) * row_bytes_;
    if (type_ == GGML_TYPE_F32) {
      std::memcpy(out, from, row_bytes_);
    } else if (type_ == GGML_TYPE_F16) {
      f16_to_f32(out, from, n_cols_);
    } else {
      // A file may have an alignment of 1 byte; ggml reads blocks as aligned structures.
      row.assign(from, from + row_bytes_);
      ggml_get_type_traits(type_)->to_float(row.data(), out, n_cols_);
    }
    if (!is_finite(out, n_cols_)) {
      throw FormatError(
          name_ + ": expected finite weights, got NaN or infinity; the file is damaged, copy or convert it again");
    }
  }

 private:
  const std::byte* data_;
  int64_t n_cols_;
  std::string name_;
  ggml_type type_;
  size_t row_bytes_;
};

namespace {

// Calls use(row) for up to 64 rows of each decoder, n_out rows of n_in values, which stand for all of them.
template <typename Use>
void for_sample_rows(const std::vector<RowDecoder>& decoders, int64_t n_out, int64_t n_in, const Use& use) {
  const int64_t n_rows = std::min<int64_t>(64, n_out);
  std::vector<std::byte> blocks;
  Buffer row(n_in);
  for (const RowDecoder& decoder : decoders) {
    for (int64_t r = 0; r < n_rows; ++r) {
      decoder.decode(row.data(), r * n_out / n_rows, blocks);
      use(row.data());
    }
  }
}

}  // namespace

const RawTensor& TensorReader::at(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) return found->second;
  throw FormatError("tensor " + name + ": expected it in the file, got none; convert the checkpoint again");
}

std::vector<int64_t> TensorReader::squeezed_shape(const std::string& name) const {
  return squeezed(at(name).shape);
}

int64_t TensorReader::dimension(const std::string& name, size_t n_dims, size_t which) const {
  const std::vector<int64_t> shape = squeezed_shape(name);
  if (shape.size() == n_dims) return shape[which];
  throw FormatError(name + ": expected " + std::to_string(n_dims) + " dimensions, got " + describe(at(name).shape) +
                    "; convert the checkpoint again");
}

const RawTensor& TensorReader::with_size(const std::string& name, const std::vector<int64_t>& shape,
                                         bool join_inputs) const {
  const RawTensor& tensor = at(name);
  std::vector<int64_t> got = tensor.shape;
  if (join_inputs && got.size() > 2) {
    const int64_t n_in = n_elements({got.begin() + 1, got.end()}, name);
    got = {got.front(), n_in};
  }
  if (squeezed(got) == squeezed(shape)) return tensor;
  throw FormatError(name + ": expected shape " + describe(shape) + ", got " + describe(tensor.shape) +
                    "; convert the checkpoint again");
}

Buffer TensorReader::values(const std::string& name, const std::vector<int64_t>& shape) const {
  const RawTensor& tensor = with_size(name, shape, false);
  const int64_t n = n_elements(shape, name);
  const RowDecoder decoder(tensor, 1, n, name);
  Buffer result(n);
  std::vector<std::byte> row;
  decoder.decode(result.data(), 0, row);
  return result;
}

Linear TensorReader::linear(const std::string& prefix, int64_t n_out, int64_t n_in, bool has_bias) const {
  return stacked_linear({prefix}, n_out, n_in, has_bias, nullptr, Groups::NARROW);
}

Linear TensorReader::linear_after(LayerNormWeights& norm, const std::vector<std::string>& prefixes, int64_t n_out,
                                  int64_t n_in, Groups groups) const {
  if (precision_ == Precision::FLOAT) return stacked_linear(prefixes, n_out, n_in, true, nullptr, Groups::NARROW);
  const Buffer sizes = column_sizes(decoders(prefixes, n_out, n_in), n_out, n_in);
  const Buffer scales = balance(norm, sizes, n_in);
  return stacked_linear(prefixes, n_out, n_in, true, scales.data(), groups);
}

std::vector<RowDecoder> TensorReader::decoders(const std::vector<std::string>& prefixes, int64_t n_out,
                                               int64_t n_in) const {
  std::vector<RowDecoder> result;
  for (const std::string& prefix : prefixes) {
    const std::string name = prefix + ".weight";
    result.emplace_back(with_size(name, {n_out, n_in}, true), n_out, n_in, name);
  }
  return result;
}

Linear TensorReader::stacked_linear(const std::vector<std::string>& prefixes, int64_t n_out, int64_t n_in,
                                    bool has_bias, const float* column_scales, Groups groups) const {
  const std::vector<RowDecoder> sources = decoders(prefixes, n_out, n_in);
  const bool can_be_wide = groups == Groups::WIDE_WHERE_ALLOWED;
  Linear result{.precision = can_be_wide ? precision_of(sources, n_out, n_in, column_scales) : precision_,
                .n_out = n_out * static_cast<int64_t>(prefixes.size()),
                .n_in = n_in,
                .panels = {},
                .bias = has_bias ? stacked_values(prefixes, n_out) : Buffer()};
  pack(result, sources, column_scales);
  for (const std::string& prefix : prefixes) drop_pages(at(prefix + ".weight"));
  return result;
}

// Decodes and packs panel by panel, each worker in memory of its own: the weights never exist in f32 as a whole.
void TensorReader::pack(Linear& linear, const std::vector<RowDecoder>& decoders, const float* column_scales) const {
  const Format format = linear.format(compute_.kernels);
  const int64_t n_in = linear.n_in, width = format.panel_width();
  // Packing reads down the columns: rows a power of two apart would share few sets of the cache.
  const int64_t stride = n_in + 16;
  const int64_t n_panels = (linear.n_out + width - 1) / width;
  const int64_t n_rows_each = linear.n_out / static_cast<int64_t>(decoders.size());
  checked_product(checked_product(linear.n_out + width, n_in + Q8_GROUP, "weights"), 2 * sizeof(float), "weights");
  linear.panels = ByteBuffer(format.panels_bytes(linear.n_out, n_in));
  compute_.pool.parallel_for(n_panels, [&](int64_t panel, int worker) {
    const int64_t first = panel * width, n_rows = std::min(width, linear.n_out - first);
    float* rows = compute_.scratch.floats(worker, 0, n_rows * stride);
    std::vector<std::byte> blocks;
    for (int64_t r = 0; r < n_rows; ++r) {
      const int64_t i = first + r;
      float* row = rows + r * stride;
      decoders[static_cast<size_t>(i / n_rows_each)].decode(row, i % n_rows_each, blocks);
      if (column_scales != nullptr) compute_.kernels.scale_columns(row, column_scales, 1, n_in);
    }
    format.pack_panels(linear.panels.data() + panel * format.panel_bytes(n_in), rows, n_rows, n_in, stride, 1);
  });
}

Precision TensorReader::precision_of(const std::vector<RowDecoder>& decoders, int64_t n_out, int64_t n_in,
                                     const float* column_scales) const {
  // An odd number of narrow groups would leave half a wide one empty.
  if (precision_ != Precision::INT8 || (n_in + Q8_GROUP - 1) / Q8_GROUP % 2 != 0) return precision_;
  WideGroups groups;
  for_sample_rows(decoders, n_out, n_in, [&](float* row) {
    if (column_scales != nullptr) compute_.kernels.scale_columns(row, column_scales, 1, n_in);
    groups.add_row(row, n_in);
  });
  return groups.are_allowed() ? Precision::INT8_WIDE : Precision::INT8;
}

Buffer TensorReader::column_sizes(const std::vector<RowDecoder>& decoders, int64_t n_out, int64_t n_in) const {
  std::vector<double> sums(static_cast<size_t>(n_in), 0.0);
  int64_t n_rows = 0;
  for_sample_rows(decoders, n_out, n_in, [&](const float* row) {
    for (int64_t i = 0; i < n_in; ++i) sums[static_cast<size_t>(i)] += double{row[i]} * row[i];
    ++n_rows;
  });
  Buffer sizes(n_in);
  std::transform(sums.begin(), sums.end(), sizes.data(),
                 [&](double sum) { return static_cast<float>(std::sqrt(sum / static_cast<double>(n_rows))); });
  return sizes;
}

Buffer TensorReader::stacked_values(const std::vector<std::string>& prefixes, int64_t n) const {
  Buffer result(n * static_cast<int64_t>(prefixes.size()));
  float* out = result.data();
  for (const std::string& prefix : prefixes) {
    const Buffer part = values(prefix + ".bias", {n});
    out = std::copy_n(part.data(), n, out);
  }
  return result;
}

void TensorReader::drop_pages([[maybe_unused]] const RawTensor& tensor) const {
#ifdef __unix__
  if (!is_file_mapping_) return;
  // Whole pages within the tensor; others hold parts of its neighbours.
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto data = reinterpret_cast<uintptr_t>(tensor.data);
  const uintptr_t begin = (data + page - 1) / page * page, end = (data + tensor.n_bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
#endif
}

LayerNormWeights TensorReader::layer_norm(const std::string& prefix, int64_t n) const {
  return {.weight = values(prefix + ".weight", {n}), .bias = values(prefix + ".bias", {n})};
}

Buffer TensorReader::depthwise(const std::string& name, int64_t n_channels) const {
  const Buffer source = values(name, {n_channels, 3, 3});
  Buffer result(9 * n_channels);
  for (int64_t c = 0; c < n_channels; ++c) {
    for (int64_t tap = 0; tap < 9; ++tap) result.data()[tap * n_channels + c] = source.data()[c * 9 + tap];
  }
  return result;
}

}  // namespace palo
