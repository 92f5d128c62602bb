// A weight matrix in our buffers: panels of its rows, in the layout of the kernels of its type.
#pragma once

#include <ggml.h>

#include <cstdint>
#include <optional>

#include "kernels/block_kernels.h"

namespace palo::backend {

// w [n_out, n_in] (ne = {n_in, n_out}), rows of row_bytes in the file; packed, n_panels of panel_bytes.
struct PackedMatrix {
  const BlockKernels* kernels;
  int64_t n_in, n_out;
  int64_t row_bytes;
  int64_t n_panels, panel_bytes;

  int64_t n_bytes() const { return n_panels * panel_bytes; }
  // Rows of the file in a panel: panel_width, fewer in the last panel.
  int64_t n_rows_of(int64_t panel) const;
};

// The layout of a tensor in our buffers; nothing for one that our kernels do not support, which is stored as in the
// file. Depends only on type and shape, so the same tensor always gets the same answer.
std::optional<PackedMatrix> packed_matrix(const ggml_tensor& tensor);

// The kernels in use, chosen once: PALO_CPP_ISA cannot change them while packed weights are in memory.
const KernelTable& kernels_in_use();

// The block type of a ggml type; nothing for those without kernels.
std::optional<BlockType> block_type(ggml_type type);

// Writes bytes [offset, offset + size) of the file's layout into panels, on n_threads threads. Panels that the range
// covers in part keep their other bytes.
void write_range(uint8_t* panels, const PackedMatrix& matrix, const uint8_t* data, int64_t offset, int64_t size,
                 int n_threads);

// The inverse: data [size] = bytes [offset, offset + size) of the file's layout.
void read_range(uint8_t* data, const PackedMatrix& matrix, const uint8_t* panels, int64_t offset, int64_t size,
                int n_threads);

}  // namespace palo::backend
