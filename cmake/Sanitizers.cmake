# PALO_CPP_SANITIZE=address,undefined or thread: applies to everything built here.
if(PALO_CPP_SANITIZE)
  set(CMAKE_CXX_FLAGS_RELEASE "-O1") # instrumented code gains little from more, and takes minutes longer to build
  # -g1: a report needs lines, not variables, whose places in the kernels take three times as long to compile.
  add_compile_options(-fsanitize=${PALO_CPP_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${PALO_CPP_SANITIZE})
  # The same checks of addresses, called instead of written out at each access: half the time of a kernel's build.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND PALO_CPP_SANITIZE MATCHES "address")
    add_compile_options(--param=asan-instrumentation-with-call-threshold=0)
  endif()
endif()
