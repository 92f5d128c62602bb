// The kernels of one instruction set: compiled once per set, with PALO_SIMD_ISA its name (also the namespace of
// everything here) and PALO_SIMD_HEADER the file with its 16 virtual lanes.
//
// All sets have the same lanes and the same order of operations, fma only where it is written (-ffp-contract=off), so
// they give equal bits. No inline function of the standard library is used: its copy, compiled here with wide
// instructions, could be the one that the linker keeps for the whole program.
#include <cstdint>

#include "kernels/block_kernels.h"
#include "kernels/kernel_table.h"
#include "kernels/pixel_kernels.h"

#define PALO_INLINE [[maybe_unused, gnu::always_inline]] inline
#define PALO_INLINE_LAMBDA __attribute__((always_inline))

// GCC 12 copies and spills the sums of a tile unless each is pinned where it is computed: 105 instead of 135 GOP/s for
// AVX2's int8 tile. Clang does not need it.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define PALO_KEEP_IN_REGISTER(value) asm("" : "+v"(value))
#else
#define PALO_KEEP_IN_REGISTER(value) static_cast<void>(0)
#endif
// What `pointer` points to is loaded where it is used, instead of being kept in more registers than there are.
#define PALO_LOAD_AGAIN(pointer) asm volatile("" : "+r"(pointer))
// Unrolls the loop that follows, whose few steps then have constant shifts and addresses.
#if defined(__GNUC__) && !defined(__clang__)
#define PALO_UNROLL _Pragma("GCC unroll 16")
#else
#define PALO_UNROLL _Pragma("unroll")
#endif
// Where 16 registers cannot hold two sets of sums, keeps this one in memory.
#define PALO_KEEP_IN_MEMORY(value) asm volatile("" : "+m"(value))

namespace palo::PALO_SIMD_ISA {
namespace {
constexpr int64_t LANES = 16;
}
}  // namespace palo::PALO_SIMD_ISA

#include PALO_SIMD_HEADER

#include "kernels/simd/attention_q8.h"
#include "kernels/simd/block_table.h"
#include "kernels/simd/cache_attention.h"
#include "kernels/simd/elementwise.h"
#include "kernels/simd/image_grid.h"
#include "kernels/simd/layer_norm.h"
#include "kernels/simd/linear.h"
#include "kernels/simd/linear_q8.h"
#include "kernels/simd/pixels.h"
#include "kernels/simd/quantize.h"
#include "kernels/simd/rows.h"

#define PALO_NAME_OF(isa) #isa
#define PALO_ISA_NAME(isa) PALO_NAME_OF(isa)

namespace palo::PALO_SIMD_ISA {
namespace {

template <int64_t GROUP>
constexpr Q8Kernels q8_kernels() {
  return {
      .group = GROUP,
      .panel_width = Q8_WIDTH,
      .panel_group_bytes = Q8Layout<GROUP>::PANEL_GROUP_BYTES,
      .row_group_bytes = Q8Layout<GROUP>::ROW_GROUP_BYTES,
      .pack_panel = pack_q8_panel<GROUP>,
      .quantize_rows = quantize_rows<GROUP>,
      .layer_norm = layer_norm_q8<GROUP>,
      .attention_weights = attention_weights_q8<GROUP>,
      .linear = linear_q8<GROUP>,
  };
}

}  // namespace

const KernelTable& kernel_table();

const KernelTable& kernel_table() {
  static constexpr KernelTable TABLE = {
      .isa = PALO_ISA_NAME(PALO_SIMD_ISA),
      .panel_width = PANEL_WIDTH,
      .pack_panel = pack_panel,
      .linear = linear,
      .layer_norm = layer_norm,
      .softmax = softmax,
      .gelu_quick = gelu_quick,
      .gelu_erf = gelu_erf,
      .relu = relu,
      .hardswish = hardswish,
      .hardsigmoid = hardsigmoid,
      .add = add,
      .depthwise_conv3x3 = depthwise_conv3x3,
      .average_pool2x2 = average_pool2x2,
      .column_means = column_means,
      .scale_columns = scale_columns,
      .patch_row = patch_row,
      .q8 = q8_kernels<Q8_GROUP>(),
      .q8_wide = q8_kernels<Q8_WIDE_GROUP>(),
      .blocks = BLOCK_KERNELS,
      .rows = &ROW_KERNELS,
      .pixels = &PIXEL_KERNELS,
      .cache_attention = &CACHE_ATTENTION,
  };
  return TABLE;
}

}  // namespace palo::PALO_SIMD_ISA
