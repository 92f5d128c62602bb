// The Python module palo_cpp._core: checks, docs, GIL; no arithmetic.
#include <ggml.h>
#include <nanobind/nanobind.h>

namespace nb = nanobind;

NB_MODULE(_core, m) {
  m.doc() = "palo_cpp's C++ core; use palo_cpp.vision instead.";
  m.def("ggml_version", &ggml_version, "Version of the ggml in this process.");
}
