# The ggml that llama-cpp-python installed for the Python that builds: target llama_cpp::ggml.
#
# The wheel unpacks every library as several full copies (libggml.so, libggml.so.0, ...). llama.cpp's own libraries
# ask the loader for libggml.so.0 and libggml-base.so.0 in llama_cpp/lib, so these very names are linked: any other
# name or folder would put a second ggml, with a registry of its own, into the process.

# find_spec looks the package up without importing it: importing llama_cpp loads the libraries and takes a second.
execute_process(
  COMMAND "${Python_EXECUTABLE}" -c
          "import importlib.util as u; print(u.find_spec('llama_cpp').submodule_search_locations[0], end='')"
  OUTPUT_VARIABLE LLAMA_CPP_PACKAGE_DIR
  RESULT_VARIABLE _llama_cpp_missing
  ERROR_QUIET)
if(_llama_cpp_missing)
  message(FATAL_ERROR "llama-cpp-python: expected it installed for ${Python_EXECUTABLE}, got no package llama_cpp; "
                      "install the version that pyproject.toml pins")
endif()
cmake_path(CONVERT "${LLAMA_CPP_PACKAGE_DIR}" TO_CMAKE_PATH_LIST LLAMA_CPP_PACKAGE_DIR)
set(LLAMA_CPP_LIB_DIR "${LLAMA_CPP_PACKAGE_DIR}/lib")
# Headers are beside the package (site-packages/include); older wheels have them inside it.
find_path(LLAMA_CPP_INCLUDE_DIR ggml.h
          PATHS "${LLAMA_CPP_PACKAGE_DIR}/../include" "${LLAMA_CPP_PACKAGE_DIR}/include"
          NO_DEFAULT_PATH NO_CACHE REQUIRED)

add_library(llama_cpp::ggml INTERFACE IMPORTED)
foreach(_name ggml ggml-base)
  if(WIN32)
    set(_file "${LLAMA_CPP_LIB_DIR}/${_name}.lib")
  elseif(APPLE)
    set(_file "${LLAMA_CPP_LIB_DIR}/lib${_name}.0.dylib")
  else()
    set(_file "${LLAMA_CPP_LIB_DIR}/lib${_name}.so.0")
  endif()
  if(NOT EXISTS "${_file}")
    message(FATAL_ERROR "llama-cpp-python: expected ${_file}, got no such file; install the version that "
                        "pyproject.toml pins")
  endif()
  target_link_libraries(llama_cpp::ggml INTERFACE "${_file}")
endforeach()
target_include_directories(llama_cpp::ggml SYSTEM INTERFACE "${LLAMA_CPP_INCLUDE_DIR}")
message(STATUS "llama.cpp: ${LLAMA_CPP_LIB_DIR}")
