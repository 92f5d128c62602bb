// The function resample of palo_cpp._core.
#pragma once

#include <nanobind/nanobind.h>

namespace palo {

void bind_pixels(nanobind::module_& m);

}  // namespace palo
