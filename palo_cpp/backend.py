"""The public name of `palo_cpp.ggml.backend_library.library_path`, for GGML_BACKEND_PATH."""

from palo_cpp.ggml.backend_library import library_path as library_path
