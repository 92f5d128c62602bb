# The Python module palo_cpp._core. nanobind's CMake files lie in its Python package.
execute_process(
  COMMAND "${Python_EXECUTABLE}" -m nanobind --cmake_dir
  OUTPUT_STRIP_TRAILING_WHITESPACE
  OUTPUT_VARIABLE nanobind_ROOT COMMAND_ERROR_IS_FATAL ANY)
find_package(nanobind CONFIG REQUIRED)

nanobind_add_module(_core NB_STATIC csrc/bindings.cpp csrc/kernel_bindings.cpp)
target_link_libraries(_core PRIVATE palo_core)
# At run time the libraries are the installed llama-cpp-python's, beside this package; never those of the build.
if(APPLE)
  set_target_properties(_core PROPERTIES INSTALL_RPATH "@loader_path/../llama_cpp/lib")
else()
  set_target_properties(_core PROPERTIES INSTALL_RPATH "$ORIGIN/../llama_cpp/lib")
endif()
install(TARGETS _core LIBRARY DESTINATION palo_cpp)
