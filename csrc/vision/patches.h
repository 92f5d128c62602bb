// The patch convolution, with which every tower begins: its stride is the side of a patch.
#pragma once

#include "kernels/linear.h"
#include "vision/config.h"

namespace palo {

// out [grid, n_embd] = embeddings of row py of an image's patch grid. pixels [3, image_size, image_size];
// patch_embd [n_embd, 3 * patch_size * patch_size].
void embed_patch_row(const Compute& compute, float* out, const float* pixels, int64_t py, const Linear& patch_embd,
                     const VisionConfig& config, int worker);

// out [n_images, n_patches, n_embd]; pixels [n_images, 3, image_size, image_size].
void embed_patches(const Compute& compute, float* out, const float* pixels, int64_t n_images, const Linear& patch_embd,
                   const VisionConfig& config);

}  // namespace palo
