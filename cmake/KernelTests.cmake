# What needs neither Python nor llama.cpp: the tests of the kernels alone (they run under an emulator, see .ci/emulate)
# and the benchmark. "generic" and "generic_wide" are the SIMD source with plain loops as its lanes, for the tests only.
foreach(_isa generic generic_wide)
  palo_kernels_for(${_isa})
endforeach()

add_executable(palo_cpp_kernel_tests tests/cpp/main.cpp tests/cpp/test_block_kernels.cpp
                                     tests/cpp/test_cache_attention.cpp tests/cpp/test_pixel_kernels.cpp
                                     tests/cpp/test_row_kernels.cpp
                                     tests/cpp/test_simd_kernels.cpp tests/cpp/test_simd_q8.cpp)
target_link_libraries(palo_cpp_kernel_tests PRIVATE palo_kernels palo_kernels_generic
                                                    palo_kernels_generic_wide)

add_executable(palo_cpp_kernel_benchmark benchmarks/kernels.cpp benchmarks/peaks.cpp)
target_link_libraries(palo_cpp_kernel_benchmark PRIVATE palo_kernels palo_peaks)
add_executable(palo_cpp_encode_stages benchmarks/encode_stages.cpp)
target_link_libraries(palo_cpp_encode_stages PRIVATE palo_kernels)
add_executable(palo_cpp_attention_benchmark benchmarks/attention.cpp)
target_link_libraries(palo_cpp_attention_benchmark PRIVATE palo_kernels)
add_executable(palo_cpp_block_benchmark benchmarks/blocks.cpp)
target_link_libraries(palo_cpp_block_benchmark PRIVATE palo_kernels)
