// Every kernel of palo_cpp, as one table of function pointers per instruction set.
//
// Contract of all kernels: matrices are row-major and channels-last; the order of arguments is out, inputs, weights,
// sizes, scalars; leading dimensions (ld*) count floats; sizes are positive and trusted (callers check them); no kernel
// allocates, throws, does I/O or keeps state. A kernel runs on one thread and computes the rows (or columns) it is
// asked for, each output element in a fixed order: callers may split the work anywhere that does not depend on the
// number of threads and get equal bits. `out` may alias an input only where a comment says so.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace palo {

struct BlockKernels;    // block_kernels.h
struct CacheAttention;  // cache_attention.h
struct PixelKernels;    // pixel_kernels.h
struct RowKernels;      // row_kernels.h

// Inputs that share one scale in the int8 path. Narrow: the usual width of an attention head, and few enough that an
// outlier channel costs few others their resolution. Wide: half as many scales to multiply by, for weights whose inputs
// are of similar size.
constexpr int64_t Q8_GROUP = 64, Q8_WIDE_GROUP = 128;

// Memory that a later call reads: a kernel asks for it, line by line, while it multiplies. No result depends on it.
struct Ahead {
  const uint8_t* at = nullptr;
  int64_t n_bytes = 0;
};

// The int8 path.
//
// Weights and activations are int8 in [-127, 127] with one f32 scale per `group` inputs: scale = absmax / 127 and q =
// round_to_even(x * (127 / absmax)), both 0 for a group of zeros. n_groups = ceil(n_in / group); missing inputs of the
// last group count as zeros. Sums of a group are exact int32; groups are added in order, each as acc = fma(float(sum),
// scale_x * scale_w, acc) from acc = 0, the bias last: equal bit for bit on every instruction set. (A group whose
// absmax is below 2^-120 counts as zeros: 127 / absmax would overflow.) Each instruction set has its own layout of
// panels and rows: only kernels of one Q8Kernels can be combined.
struct Q8Kernels {
  int64_t group;              // inputs per scale
  int64_t panel_width;        // outputs per panel
  int64_t panel_group_bytes;  // a panel takes n_groups * panel_group_bytes, aligned to 64
  int64_t row_group_bytes;  // a quantized row takes n_groups * row_group_bytes, group g at byte g * that: a row may be
                            // quantized in pieces of whole groups

  // Quantizes and packs n_out (at most panel_width) rows of w [n_out, n_in] f32, element (o, i) at
  // w[o * stride_out + i * stride_in], one of the strides being 1; missing rows become zeros.
  void (*pack_panel)(uint8_t* panel, const float* w, int64_t n_out, int64_t n_in, int64_t stride_out,
                     int64_t stride_in);

  // out [n_rows, n_groups * row_group_bytes] = quantized x [n_rows, n_in] ld ldx.
  void (*quantize_rows)(uint8_t* out, const float* x, int64_t n_rows, int64_t n_in, int64_t ldx);

  // quantize_rows(layer_norm(x)) in one pass over x [n_rows, n_cols] dense.
  void (*layer_norm)(uint8_t* out, const float* x, const float* weight, const float* bias, int64_t n_rows,
                     int64_t n_cols, float eps);

  // Quantized rows [n_rows, n_out] of softmax(scale * scores), scores = x W^T as `linear` computes them: exponentials
  // are quantized, with a relative error of 1e-5 beside the 1 / 254 that rounding costs a group's largest, and the
  // scales are divided by the row's sum. scratch: n_rows * (n_out + 32) floats.
  void (*attention_weights)(uint8_t* out, const uint8_t* x, const uint8_t* panels, float* scratch, int64_t n_rows,
                            int64_t n_out, int64_t n_in, float scale);

  // out[r, o] = bias[o] + sum_i x[r, i] * w[o, i], x as quantize_rows, panels as pack_panel wrote them.
  // out [n_rows, n_out] ld ldo; bias [n_out] or nullptr.
  void (*linear)(float* out, const uint8_t* x, const uint8_t* panels, const float* bias, int64_t n_rows, int64_t n_out,
                 int64_t n_in, int64_t ldo, Ahead ahead);
};

struct KernelTable {
  const char* isa;

  // Width of a panel of packed weights: `pack` writes ceil(n_out / panel_width) panels of [n_in, panel_width].
  int64_t panel_width;

  // Packs n_out rows (at most panel_width) of w [n_out, n_in] f32, element (o, i) at w[o * stride_out + i * stride_in],
  // into one panel [n_in, panel_width]; missing rows become zeros.
  void (*pack_panel)(float* panel, const float* w, int64_t n_out, int64_t n_in, int64_t stride_out, int64_t stride_in);

  // out[r, o] = bias[o] + sum_i x[r, i] * w[o, i] for r in [0, n_rows), o in [0, n_out): a Linear layer.
  // out [n_rows, n_out] ld ldo; x [n_rows, n_in] ld ldx; panels as pack_panel wrote them; bias [n_out] or nullptr.
  // Sums in f32, in blocks of 256 inputs: the longest sum here has 4096 terms, see test_kernels.py for the error.
  void (*linear)(float* out, const float* x, const float* panels, const float* bias, int64_t n_rows, int64_t n_out,
                 int64_t n_in, int64_t ldo, int64_t ldx);

  // out[r, c] = (x[r, c] - mean_r) / sqrt(variance_r + eps) * weight[c] + bias[c], biased variance, double sums.
  // out, x [n_rows, n_cols] dense; out may be x.
  void (*layer_norm)(float* out, const float* x, const float* weight, const float* bias, int64_t n_rows, int64_t n_cols,
                     float eps);

  // x[r, c] = exp(scale * x[r, c] - max) / sum over c, in place; x [n_rows, n_cols] ld ldx; double sum.
  void (*softmax)(float* x, int64_t n_rows, int64_t n_cols, int64_t ldx, float scale);

  // Elementwise, in place, x [n].
  void (*gelu_quick)(float* x, int64_t n);   // x * sigmoid(1.702 x), transformers' "quick_gelu"
  void (*gelu_erf)(float* x, int64_t n);     // x/2 * (1 + erf(x / sqrt 2)), torch.nn.GELU()
  void (*relu)(float* x, int64_t n);         // max(x, 0)
  void (*hardswish)(float* x, int64_t n);    // x * clamp(x + 3, 0, 6) / 6
  void (*hardsigmoid)(float* x, int64_t n);  // clamp(x + 3, 0, 6) / 6
  void (*add)(float* out, const float* a, const float* b, int64_t n);  // out = a + b; out may be a or b

  // Depthwise 3x3 convolution, zero padding 1: out[y, x, c] = bias[c] + sum_{u, v} in[s y + u - 1, s x + v - 1, c] *
  // weight[3 u + v, c] for output rows y in [y_begin, y_end). out [ceil(h / s), ceil(w / s), c]; in [h, w, c];
  // weight [9, c] (channels last); bias [c] or nullptr; s = stride.
  void (*depthwise_conv3x3)(float* out, const float* in, const float* weight, const float* bias, int64_t y_begin,
                            int64_t y_end, int64_t height, int64_t width, int64_t n_channels, int64_t stride);

  // Average of whole 2x2 windows, a last odd row or column is dropped (torch.nn.AvgPool2d(2)), for output rows y in
  // [y_begin, y_end). out [h / 2, w / 2, c]; in [h, w, c].
  void (*average_pool2x2)(float* out, const float* in, int64_t y_begin, int64_t y_end, int64_t width,
                          int64_t n_channels);

  // out[c] = mean over rows of x[r, c] for c in [c_begin, c_end), double sums. out [n_cols]; x [n_rows, n_cols] dense.
  void (*column_means)(float* out, const float* x, int64_t c_begin, int64_t c_end, int64_t n_rows, int64_t n_cols);

  // x[r, c] *= scale[c], in place. x [n_rows, n_cols] dense; scale [n_cols].
  void (*scale_columns)(float* x, const float* scale, int64_t n_rows, int64_t n_cols);

  // Splits row py of the patch grid into vectors: out[px, (c p + v) p + u] = pixels[c, py p + v, px p + u], the order
  // of a convolution weight [*, 3, p, p]. out [grid, 3 p p]; pixels [3, size, size]; p = patch_size, size = grid * p.
  void (*patch_row)(float* out, const float* pixels, int64_t py, int64_t grid, int64_t patch_size);

  // The int8 path with Q8_GROUP and with Q8_WIDE_GROUP inputs per scale.
  Q8Kernels q8, q8_wide;

  // Products with GGUF's block types, [N_BLOCK_TYPES]: see block_kernels.h.
  const BlockKernels* blocks;

  // Kernels over single rows: see row_kernels.h.
  const RowKernels* rows;

  // Resampling of 8-bit pixels: see pixel_kernels.h.
  const PixelKernels* pixels;

  // Attention over cached keys and values: see cache_attention.h.
  const CacheAttention* cache_attention;
};

namespace ref {
// Plain portable C++: runs everywhere, and every other instruction set is tested against it.
const KernelTable& kernel_table();
}  // namespace ref

// Instruction sets that this machine can run, best first; the last one is "ref".
std::vector<std::string> available_isas();

// The table of one instruction set. Throws std::invalid_argument for any other name.
const KernelTable& kernels_of(const std::string& isa);

// The table in use: the one that the environment variable PALO_CPP_ISA names, else the best available. Throws
// std::invalid_argument where PALO_CPP_ISA names none that this machine can run.
const KernelTable& kernels();

}  // namespace palo
