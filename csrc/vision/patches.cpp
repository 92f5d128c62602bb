#include "vision/patches.h"

namespace palo {

void embed_patch_row(const Compute& compute, float* out, const float* pixels, int64_t py, const Linear& w,
                     const VisionConfig& config, int worker) {
  const Format format = w.format(compute.kernels);
  const int64_t grid = config.grid();
  float* patches = compute.scratch.floats(worker, 0, grid * w.n_in);
  uint8_t* rows = compute.scratch.bytes(worker, 1, grid * format.row_bytes(w.n_in));
  compute.kernels.patch_row(patches, pixels, py, grid, config.patch_size);
  format.write_rows(rows, patches, grid, w.n_in, w.n_in);
  const float* bias = w.bias.size() == 0 ? nullptr : w.bias.data();
  format.linear(out, rows, w.panels.data(), bias, grid, w.n_out, w.n_in, w.n_out);
}

void embed_patches(const Compute& compute, float* out, const float* pixels, int64_t n_images, const Linear& patch_embd,
                   const VisionConfig& config) {
  const int64_t grid = config.grid();
  compute.pool.parallel_for(n_images * grid, [&](int64_t task, int worker) {
    embed_patch_row(compute, out + task * grid * config.n_embd, pixels + task / grid * config.n_pixels(), task % grid,
                    patch_embd, config, worker);
  });
}

}  // namespace palo
