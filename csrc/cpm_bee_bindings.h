// The class CpmBee of palo_cpp._core.
#pragma once

#include <nanobind/nanobind.h>

namespace palo {

void bind_cpm_bee(nanobind::module_& m);

}  // namespace palo
