# The Python modules palo_cpp._core and palo_cpp._test_kernels. nanobind's CMake files are in its Python package.
execute_process(
  COMMAND "${Python_EXECUTABLE}" -m nanobind --cmake_dir
  OUTPUT_STRIP_TRAILING_WHITESPACE
  OUTPUT_VARIABLE nanobind_ROOT COMMAND_ERROR_IS_FATAL ANY)
find_package(nanobind CONFIG REQUIRED)

nanobind_add_module(_core NB_STATIC csrc/bindings.cpp csrc/cpm_bee_bindings.cpp csrc/pixel_bindings.cpp)
target_link_libraries(_core PRIVATE palo_core palo_cpm_bee palo_peaks)
# At run time the libraries are the installed llama-cpp-python's, beside this package; never those of the build.
if(APPLE)
  set_target_properties(_core PROPERTIES INSTALL_RPATH "@loader_path/../llama_cpp/lib")
else()
  set_target_properties(_core PROPERTIES INSTALL_RPATH "$ORIGIN/../llama_cpp/lib")
endif()

# Only the Python tests import this one. It is installed all the same: the README's test command, `pip install ".[test]"`
# and then `pytest`, runs in an environment without CMake, so whatever the tests need must come from the installation.
nanobind_add_module(_test_kernels NB_STATIC tests/cpp/module/kernel_bindings.cpp)
target_link_libraries(_test_kernels PRIVATE palo_kernels)

install(TARGETS _core _test_kernels LIBRARY DESTINATION palo_cpp)
