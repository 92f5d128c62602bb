// Matrix products with weights in GGUF's block types, the ones that a quantized language model has: what the ggml
// backend runs. Nothing of a weight is rounded again: a panel holds the very integers and scales of the file, in the
// order in which the kernels read them, in as many bytes (panel_bytes says how many).
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"

namespace palo {

// F16: products that are summed before the sum is added to the total, which bounds the error of long rows.
constexpr int64_t F16_SUM = 128;

enum class BlockType { Q4_0, Q8_0, Q4_K, Q5_K, Q6_K, F16 };
constexpr int N_BLOCK_TYPES = 6;

// The kernels of one block type. Contract as in kernel_table.h: one thread, no allocation, each output element in a
// fixed order whatever n_rows and n_out are, so that results are equal bit for bit however the work is cut, and on
// every instruction set.
//
// Activations are what ggml's CPU backend makes of them, so that both give the same answers: int8 in [-127, 127], q =
// round_to_even(x * (127 / absmax)), both 0 where absmax is below 2^-120; for Q4_0 and Q8_0 a scale per 32 inputs,
// absmax / 127 rounded to f16 (where it is not beyond); for the K types one per 256 inputs, 1 / (127 / absmax) in f32.
//
// The order: a block of weights sums up to part = fma(float(sum of products), scale_w, part), from 0, for each run of
// inputs that share a scale of weights (32; 16 in Q6_K), in order; after each 32 of Q4_K and Q5_K follows part =
// fma(float(sum of q), -dmin * m, part). Blocks are added in order, acc = fma(part, scale_x, acc) from acc = 0. Q6_K's
// scale_w are the file's whole numbers, so part is exact below 2^24, and its blocks end with fma(part, d * scale_x,
// acc): ggml's integer sums. F16: sums of F16_SUM inputs in f32, each fma(x, w, sum) from 0, are added in order.
struct BlockKernels {
  BlockType type;

  int64_t panel_width;  // outputs per panel: the unit in which n_out may be cut
  int64_t block_size;   // n_in must be a multiple of it: GGUF's block, 32 or 256; 1 for F16

  // Bytes of a panel of n_in inputs, a multiple of 64; panels are aligned to 64. The sum over ceil(n_out / panel_width)
  // panels is what the file's blocks take, but for the last panel's missing rows (and at most 1 % of padding).
  int64_t (*panel_bytes)(int64_t n_in);

  // One panel from n_out (at most panel_width) rows of GGUF blocks, row_bytes apart; missing rows become zeros.
  void (*pack_panel)(uint8_t* panel, const uint8_t* rows, int64_t n_out, int64_t n_in, int64_t row_bytes);

  // Inverse of pack_panel: the very bytes that went in. What llama.cpp reads back.
  void (*unpack_panel)(uint8_t* rows, const uint8_t* panel, int64_t n_out, int64_t n_in, int64_t row_bytes);

  // Bytes of a row of quantized inputs, a multiple of 64.
  int64_t (*row_bytes)(int64_t n_in);

  // out [n_rows, row_bytes(n_in)] = quantized x [n_rows, n_in] f32 ld ldx. As fine as llama.cpp's own activations or
  // finer: int8 with a scale per 32 inputs (Q8_0), per 256 at most for the K types (Q8_K); F16 keeps what llama.cpp's
  // CPU backend keeps, or more.
  void (*quantize_rows)(uint8_t* out, const float* x, int64_t n_rows, int64_t n_in, int64_t ldx);

  // out[r, o] = sum_i x[r, i] * w[o, i]; out [n_rows, n_out] ld ldo. One row runs at the speed of memory, many at the
  // speed of the integer units. Good tasks: of one to four rows neighbouring panels of 256 KiB and more, for the next
  // 8 KiB are asked for ahead; of many rows all of them (cut every 192 inside) with 128 to 512 outputs.
  void (*multiply)(float* out, const uint8_t* x, const uint8_t* panels, int64_t n_rows, int64_t n_out, int64_t n_in,
                   int64_t ldo);
};

// The kernels of a block type on the instruction set of `kernels`.
const BlockKernels& block_kernels(const KernelTable& kernels, BlockType type);

}  // namespace palo
