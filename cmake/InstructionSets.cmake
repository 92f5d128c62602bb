# The library palo_kernels: portable C++ (instruction set "ref") and csrc/kernels/simd/kernels.cpp compiled once for
# each instruction set that the compiler knows for this processor family. Which of them runs is decided at startup, see
# csrc/kernels/dispatch.cpp; only these objects contain wide instructions. MSVC and other families get "ref" alone.
include(CheckCXXCompilerFlag)
include(CheckCXXSourceCompiles)

check_cxx_source_compiles("#ifndef __x86_64__\n#error\n#endif\nint main() {}" PALO_CPP_IS_X86_64)
check_cxx_source_compiles("#ifndef __aarch64__\n#error\n#endif\nint main() {}" PALO_CPP_IS_AARCH64)

file(GLOB PALO_KERNEL_SOURCES CONFIGURE_DEPENDS csrc/kernels/*.cpp)
add_library(palo_kernels STATIC ${PALO_KERNEL_SOURCES})
target_include_directories(palo_kernels PUBLIC csrc)
target_link_libraries(palo_kernels PUBLIC Threads::Threads)
if(NOT MSVC)
  # No errno and no traps from sqrt and friends: lets the compiler vectorize loops and changes no result.
  target_compile_options(palo_kernels PRIVATE -Wall -Wextra -fno-math-errno -fno-trapping-math)
endif()

# What a core's products are compared with, for each of the instruction sets.
add_library(palo_peaks STATIC csrc/peaks/multiply_peaks.cpp)
target_include_directories(palo_peaks PUBLIC csrc)

# palo_kernels_for(ISA FLAGS...): the object library palo_kernels_ISA, namespace palo::ISA, header simd/isa_ISA.h.
function(palo_kernels_for isa)
  add_library(palo_kernels_${isa} OBJECT csrc/kernels/simd/kernels.cpp)
  target_include_directories(palo_kernels_${isa} PRIVATE csrc)
  target_compile_definitions(palo_kernels_${isa} PRIVATE PALO_SIMD_ISA=${isa}
                                                         PALO_SIMD_HEADER="kernels/simd/isa_${isa}.h")
  # A product and a sum become one fma only where the source says so: equal bits on every instruction set.
  target_compile_options(palo_kernels_${isa} PRIVATE -Wall -Wextra -fno-math-errno -fno-trapping-math
                                                     -ffp-contract=off ${ARGN})
endfunction()

# Adds the kernels of an instruction set to palo_kernels, if the compiler has the flags.
function(palo_add_isa isa)
  string(JOIN " " flags ${ARGN})
  check_cxx_compiler_flag("${flags}" PALO_CPP_CAN_${isa})
  if(PALO_CPP_CAN_${isa})
    palo_kernels_for(${isa} ${ARGN})
    target_sources(palo_kernels PRIVATE $<TARGET_OBJECTS:palo_kernels_${isa}>)
    target_compile_definitions(palo_kernels PRIVATE PALO_HAS_${isa})
    target_compile_definitions(palo_peaks PRIVATE PALO_HAS_${isa})
  endif()
endfunction()

if(PALO_CPP_IS_X86_64 AND NOT MSVC)
  # GCC 12 warns about its own AVX-512 headers (GCC bug 105593).
  palo_add_isa(avx512vnni -Wno-maybe-uninitialized -Wno-uninitialized -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx2 -mfma)
  palo_add_isa(avxvnni -mavxvnni -mavx2 -mfma -mf16c)
  palo_add_isa(avx2 -mavx2 -mfma -mf16c)
elseif(PALO_CPP_IS_AARCH64 AND NOT MSVC)
  palo_add_isa(neon -march=armv8.2-a+dotprod)
endif()
