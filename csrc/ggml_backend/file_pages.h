// Pages of a mapped model file that are no longer needed.
#pragma once

#include <cstddef>

namespace palo::backend {

// Releases the whole pages within [data, data + size) if they belong to a file mapped shared and read-only, as
// llama.cpp maps models; does nothing for any other memory. The file's bytes stay in the system's cache and return when
// read; only this process no longer holds them, so that no weight is resident twice, packed and unpacked.
void release_file_pages(const void* data, size_t size);

}  // namespace palo::backend
