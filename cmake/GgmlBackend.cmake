# csrc/ggml_backend: the library palo_backend, and on it libpalo_ggml.so, which llama.cpp loads by its path
# (GGML_BACKEND_PATH) and which therefore exports nothing but ggml_backend_init, ggml_backend_score and palo_settle_amx.
find_package(OpenMP COMPONENTS CXX)

file(GLOB PALO_BACKEND_SOURCES CONFIGURE_DEPENDS csrc/ggml_backend/*.cpp csrc/ggml_backend/ops/*.cpp)
list(FILTER PALO_BACKEND_SOURCES EXCLUDE REGEX "/library\\.cpp$")
add_library(palo_backend STATIC ${PALO_BACKEND_SOURCES})
target_link_libraries(palo_backend PUBLIC palo_kernels llama_cpp::ggml)
# llama-cpp-python's ggml computes with OpenMP, and the two share its threads. ThreadSanitizer does not understand
# OpenMP's: there, and where there is no OpenMP, the kernels' own pool is used.
if(OpenMP_CXX_FOUND AND NOT PALO_CPP_SANITIZE MATCHES "thread")
  target_compile_definitions(palo_backend PRIVATE PALO_USE_OPENMP)
  target_link_libraries(palo_backend PRIVATE OpenMP::OpenMP_CXX)
endif()
if(NOT MSVC)
  target_compile_options(palo_backend PRIVATE -Wall -Wextra)
endif()

if(NOT PALO_CPP_TESTS)
  add_library(palo_ggml MODULE csrc/ggml_backend/library.cpp)
  target_link_libraries(palo_ggml PRIVATE palo_backend)
  # A program has already loaded its own ggml under the same name; only in this package it is found by its folder.
  if(APPLE)
    set_target_properties(palo_ggml PROPERTIES INSTALL_RPATH "@loader_path/../llama_cpp/lib")
  else()
    set_target_properties(palo_ggml PROPERTIES INSTALL_RPATH "$ORIGIN/../llama_cpp/lib")
  endif()
  if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang" AND NOT APPLE)
    # Static libraries' symbols and the C++ library's templates must not mix with the program's.
    target_link_options(palo_ggml PRIVATE "LINKER:--exclude-libs,ALL" "LINKER:--no-undefined")
  endif()
  install(TARGETS palo_ggml LIBRARY DESTINATION palo_cpp)
endif()
