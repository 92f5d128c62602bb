// Matrix product of the portable instruction set: split into blocks that stay in cache, and small tiles in registers.
#include <algorithm>
#include <cstring>

#include "kernels/ref.h"

namespace palo::ref {
namespace {

// A tile of 4 rows x 8 columns is 8 vectors of 4 floats: with the operands it fits the 16 registers of SSE2 and NEON.
// Measured on Zen 3 (SSE2 code): 4x8 28 GFLOP/s per core, 2x8 25, 4x16 22.
constexpr int64_t TILE_ROWS = 4;
constexpr int64_t LANES = 4;
// Each block of inputs is summed from zero and then added: shorter sums round less. 256 x 8 floats are 8 KiB, a quarter
// of the smallest common first-level cache.
constexpr int64_t DEPTH_BLOCK = 256;

#if defined(__GNUC__) || defined(__clang__)
// GCC keeps an array of these in registers; it spills a plain float[4][8].
typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));
#else
struct Vector {
  float lane[LANES];
  Vector& operator+=(const Vector& other) {
    for (int64_t i = 0; i < LANES; ++i) lane[i] += other.lane[i];
    return *this;
  }
};
inline Vector operator*(float scalar, const Vector& v) {
  Vector out;
  for (int64_t i = 0; i < LANES; ++i) out.lane[i] = scalar * v.lane[i];
  return out;
}
#endif

constexpr int64_t TILE_VECTORS = PANEL_WIDTH / LANES;

// tile[r, c] += sum_k block[k, r] * panel[k, c]; tile [TILE_ROWS, PANEL_WIDTH], block [depth, TILE_ROWS], panel [depth,
// PANEL_WIDTH], all dense.
void multiply_tile(float* tile, const float* block, const float* panel, int64_t depth) {
  Vector sums[TILE_ROWS][TILE_VECTORS] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Vector weights[TILE_VECTORS];
    std::memcpy(weights, panel + k * PANEL_WIDTH, sizeof(weights));
    for (int64_t r = 0; r < TILE_ROWS; ++r) {
      const float value = block[k * TILE_ROWS + r];
      for (int64_t v = 0; v < TILE_VECTORS; ++v) sums[r][v] += value * weights[v];
    }
  }
  Vector before[TILE_ROWS][TILE_VECTORS];
  std::memcpy(before, tile, sizeof(before));
  for (int64_t r = 0; r < TILE_ROWS; ++r) {
    for (int64_t v = 0; v < TILE_VECTORS; ++v) before[r][v] += sums[r][v];
  }
  std::memcpy(tile, before, sizeof(before));
}

// block [depth, TILE_ROWS] = x [n_rows, depth] transposed, missing rows zero. The rows of x are often a power of two
// apart: read in place they would share a few lines of the cache.
void pack_rows(float* block, const float* x, int64_t n_rows, int64_t depth, int64_t ldx) {
  if (n_rows < TILE_ROWS) std::memset(block, 0, depth * TILE_ROWS * sizeof(float));
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t k = 0; k < depth; ++k) block[k * TILE_ROWS + r] = x[r * ldx + k];
  }
}

// Copies one row of a tile; whole rows, the usual case, get a size that the compiler knows.
inline void copy_row(float* to, const float* from, int64_t n_cols) {
  if (n_cols == PANEL_WIDTH) {
    std::memcpy(to, from, PANEL_WIDTH * sizeof(float));
  } else {
    std::memcpy(to, from, n_cols * sizeof(float));
  }
}

// The part of `out` [n_rows, n_cols] that one tile covers.
struct TileArea {
  float* out;
  int64_t ldo, n_rows, n_cols;

  // Starts the sums from the bias (nullptr: zero), for the first block of inputs ...
  void start(float* tile, const float* bias) const {
    std::memset(tile, 0, TILE_ROWS * PANEL_WIDTH * sizeof(float));
    if (bias == nullptr) return;
    for (int64_t r = 0; r < n_rows; ++r) copy_row(tile + r * PANEL_WIDTH, bias, n_cols);
  }
  // ... or from the sums of the previous blocks.
  void resume(float* tile) const {
    if (n_cols < PANEL_WIDTH) std::memset(tile, 0, TILE_ROWS * PANEL_WIDTH * sizeof(float));
    for (int64_t r = 0; r < n_rows; ++r) copy_row(tile + r * PANEL_WIDTH, out + r * ldo, n_cols);
  }
  void store(const float* tile) const {
    for (int64_t r = 0; r < n_rows; ++r) copy_row(out + r * ldo, tile + r * PANEL_WIDTH, n_cols);
  }
};

}  // namespace

void pack_panel(float* panel, const float* w, int64_t n_out, int64_t n_in, int64_t stride_out, int64_t stride_in) {
  for (int64_t i = 0; i < n_in; ++i) {
    for (int64_t o = 0; o < PANEL_WIDTH; ++o) {
      panel[i * PANEL_WIDTH + o] = o < n_out ? w[o * stride_out + i * stride_in] : 0.0f;
    }
  }
}

void linear(float* out, const float* x, const float* panels, const float* bias, int64_t n_rows, int64_t n_out,
            int64_t n_in, int64_t ldo, int64_t ldx) {
  alignas(64) float tile[TILE_ROWS * PANEL_WIDTH];
  alignas(64) float block[TILE_ROWS * DEPTH_BLOCK];
  for (int64_t k = 0; k < n_in; k += DEPTH_BLOCK) {
    const int64_t depth = std::min(DEPTH_BLOCK, n_in - k);
    for (int64_t r = 0; r < n_rows; r += TILE_ROWS) {
      const int64_t rows = std::min(TILE_ROWS, n_rows - r);
      pack_rows(block, x + r * ldx + k, rows, depth, ldx);
      for (int64_t o = 0; o < n_out; o += PANEL_WIDTH) {
        const TileArea area{out + r * ldo + o, ldo, rows, std::min(PANEL_WIDTH, n_out - o)};
        if (k == 0) {
          area.start(tile, bias == nullptr ? nullptr : bias + o);
        } else {
          area.resume(tile);
        }
        multiply_tile(tile, block, panels + o * n_in + k * PANEL_WIDTH, depth);
        area.store(tile);
      }
    }
  }
}

}  // namespace palo::ref
