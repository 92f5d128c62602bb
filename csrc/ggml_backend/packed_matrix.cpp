#include "ggml_backend/packed_matrix.h"

#include <algorithm>
#include <cstring>

#include "ggml_backend/parallel.h"
#include "kernels/buffer.h"

namespace palo::backend {
namespace {

// The part of a panel's rows, as bytes of the file's layout, that a range covers.
struct Part {
  int64_t panel_begin, panel_size;  // the panel's rows
  int64_t begin, end;               // what of the range lies in them

  bool is_whole() const { return begin == panel_begin && end == panel_begin + panel_size; }
};

Part part_of(const PackedMatrix& matrix, int64_t panel, int64_t offset, int64_t size) {
  const int64_t panel_begin = panel * matrix.kernels->panel_width * matrix.row_bytes;
  const int64_t panel_size = matrix.n_rows_of(panel) * matrix.row_bytes;
  return {panel_begin, panel_size, std::max(panel_begin, offset), std::min(panel_begin + panel_size, offset + size)};
}

void unpack(uint8_t* rows, const PackedMatrix& matrix, const uint8_t* panels, int64_t panel) {
  matrix.kernels->unpack_panel(rows, panels + panel * matrix.panel_bytes, matrix.n_rows_of(panel), matrix.n_in,
                               matrix.row_bytes);
}

void pack(uint8_t* panels, const PackedMatrix& matrix, const uint8_t* rows, int64_t panel) {
  matrix.kernels->pack_panel(panels + panel * matrix.panel_bytes, rows, matrix.n_rows_of(panel), matrix.n_in,
                             matrix.row_bytes);
}

// body(panel, part) for each panel that the range touches.
template <typename Body>
void for_each_part(const PackedMatrix& matrix, int64_t offset, int64_t size, int n_threads, const Body& body) {
  if (size <= 0) return;
  const int64_t panel_size = matrix.kernels->panel_width * matrix.row_bytes;
  const int64_t first = offset / panel_size, last = (offset + size - 1) / panel_size;
  run_phases(
      {{last - first + 1, [&](int64_t task) { body(first + task, part_of(matrix, first + task, offset, size)); }}},
      n_threads);
}

}  // namespace

int64_t PackedMatrix::n_rows_of(int64_t panel) const {
  return std::min(kernels->panel_width, n_out - panel * kernels->panel_width);
}

const KernelTable& kernels_in_use() {
  static const KernelTable& table = kernels();
  return table;
}

std::optional<BlockType> block_type(ggml_type type) {
  switch (type) {
    case GGML_TYPE_Q4_0:
      return BlockType::Q4_0;
    case GGML_TYPE_Q8_0:
      return BlockType::Q8_0;
    case GGML_TYPE_Q4_K:
      return BlockType::Q4_K;
    case GGML_TYPE_Q5_K:
      return BlockType::Q5_K;
    case GGML_TYPE_Q6_K:
      return BlockType::Q6_K;
    case GGML_TYPE_F16:
      return BlockType::F16;
    default:
      return std::nullopt;
  }
}

std::optional<PackedMatrix> packed_matrix(const ggml_tensor& tensor) {
  const std::optional<BlockType> type = block_type(tensor.type);
  if (!type || tensor.ne[2] != 1 || tensor.ne[3] != 1 || tensor.view_src != nullptr) return std::nullopt;
  const BlockKernels& kernels = block_kernels(kernels_in_use(), *type);
  const int64_t n_in = tensor.ne[0], n_out = tensor.ne[1];
  if (n_in <= 0 || n_out <= 0 || n_in % kernels.block_size != 0 || !ggml_is_contiguous(&tensor)) return std::nullopt;
  const int64_t n_panels = (n_out + kernels.panel_width - 1) / kernels.panel_width;
  return PackedMatrix{&kernels, n_in, n_out, static_cast<int64_t>(tensor.nb[1]), n_panels, kernels.panel_bytes(n_in)};
}

void write_range(uint8_t* panels, const PackedMatrix& matrix, const uint8_t* data, int64_t offset, int64_t size,
                 int n_threads) {
  for_each_part(matrix, offset, size, n_threads, [&](int64_t panel, const Part& part) {
    const uint8_t* rows = data + (part.begin - offset);
    if (part.is_whole()) return pack(panels, matrix, rows, panel);
    ByteBuffer whole(part.panel_size);
    unpack(whole.data(), matrix, panels, panel);
    std::memcpy(whole.data() + (part.begin - part.panel_begin), rows, static_cast<size_t>(part.end - part.begin));
    pack(panels, matrix, whole.data(), panel);
  });
}

void read_range(uint8_t* data, const PackedMatrix& matrix, const uint8_t* panels, int64_t offset, int64_t size,
                int n_threads) {
  for_each_part(matrix, offset, size, n_threads, [&](int64_t panel, const Part& part) {
    uint8_t* rows = data + (part.begin - offset);
    if (part.is_whole()) return unpack(rows, matrix, panels, panel);
    ByteBuffer whole(part.panel_size);
    unpack(whole.data(), matrix, panels, panel);
    std::memcpy(rows, whole.data() + (part.begin - part.panel_begin), static_cast<size_t>(part.end - part.begin));
  });
}

}  // namespace palo::backend
