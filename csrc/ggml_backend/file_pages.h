// Pages of a mapped model file that nobody needs any more.
#pragma once

#include <cstddef>

namespace palo::backend {

// Lets go of the whole pages within [data, data + size) if they belong to a file mapped shared and read-only, as
// llama.cpp maps models; does nothing for any other memory. The file's bytes stay in the system's cache and come back
// when read; only this process no longer holds them, so that a weight is not resident twice, packed and as it was.
void release_file_pages(const void* data, size_t size);

}  // namespace palo::backend
