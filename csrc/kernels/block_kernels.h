// Matrix products with weights in GGUF's block types. No weight is rounded again: a panel holds the integers and scales
// of the file unchanged, in the order in which the kernels read them, and takes as many bytes (see panel_bytes).
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace palo {

// F16: number of products that are summed before their sum is added to the total, which bounds the error of long rows.
constexpr int64_t F16_SUM = 128;

enum class BlockType { Q4_0, Q8_0, Q4_K, Q5_K, Q6_K, F16 };
constexpr int N_BLOCK_TYPES = 6;

// The kernels of one block type. Contract as in kernel_table.h: one thread, no allocation; each output element is
// computed in the same order whatever n_rows and n_out are, so results are equal bit for bit however the work is split
// and on every instruction set.
//
// Activations are quantized as by ggml's CPU backend, so that both give the same answers: int8 in [-127, 127], q =
// round_to_even(x * (127 / absmax)), both 0 where absmax is below 2^-120; for Q4_0 and Q8_0 a scale per 32 inputs,
// absmax / 127 rounded to f16 (unless it is too large for it); for the K types one per 256 inputs, 1 / (127 / absmax)
// in f32.
//
// The order: the sum of a block of weights is part = fma(float(sum of products), scale_w, part), from 0, for each run
// of inputs that share a scale of weights (32; 16 in Q6_K), in order; after each 32 of Q4_K and Q5_K comes part =
// fma(float(sum of q), -dmin * m, part). Blocks are added in order, acc = fma(part, scale_x, acc) from acc = 0. Q6_K's
// scale_w are the integers of the file, so part is exact below 2^24, and its blocks are added as fma(part, d * scale_x,
// acc), which equals ggml's integer sums. F16: sums of F16_SUM inputs in f32, each fma(x, w, sum) from 0, are added in
// order.
struct BlockKernels {
  BlockType type;

  int64_t panel_width;  // outputs per panel: n_out may be split at multiples of it
  int64_t block_size;   // n_in must be a multiple of it: GGUF's block, 32 or 256; 1 for F16

  // Bytes of a panel of n_in inputs, a multiple of 64; panels are aligned to 64. All ceil(n_out / panel_width) panels
  // together take as many bytes as the file's blocks, except for the missing rows of the last panel (and at most 1 % of
  // padding).
  int64_t (*panel_bytes)(int64_t n_in);

  // Packs n_out (at most panel_width) rows of GGUF blocks, row_bytes apart, into one panel; missing rows become zeros.
  void (*pack_panel)(uint8_t* panel, const uint8_t* rows, int64_t n_out, int64_t n_in, int64_t row_bytes);

  // Inverse of pack_panel: restores the same bytes, for llama.cpp to read back.
  void (*unpack_panel)(uint8_t* rows, const uint8_t* panel, int64_t n_out, int64_t n_in, int64_t row_bytes);

  // Bytes of a row of quantized inputs, a multiple of 64.
  int64_t (*row_bytes)(int64_t n_in);

  // out [n_rows, row_bytes(n_in)] = quantized x [n_rows, n_in] f32 ld ldx. At least as fine as llama.cpp's own
  // activations: int8 with a scale per 32 inputs (Q8_0), per 256 for the K types (Q8_K); for F16 they stay f32, where
  // llama.cpp rounds to f16.
  void (*quantize_rows)(uint8_t* out, const float* x, int64_t n_rows, int64_t n_in, int64_t ldx);

  // out[r, o] = sum_i x[r, i] * w[o, i]; out [n_rows, n_out] ld ldo. One row runs at the speed of memory, many rows at
  // the speed of the integer units. Good sizes of a task: for one to four rows, neighbouring panels of 256 KiB or more,
  // because the next 8 KiB are prefetched; for many rows, all of them (they are split every 192 inside) with 128 to 512
  // outputs.
  void (*multiply)(float* out, const uint8_t* x, const uint8_t* panels, int64_t n_rows, int64_t n_out, int64_t n_in,
                   int64_t ldo);
};

// The kernels of a block type on the instruction set of `kernels`.
const BlockKernels& block_kernels(const KernelTable& kernels, BlockType type);

}  // namespace palo
