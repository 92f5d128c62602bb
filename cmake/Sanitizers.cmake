# PALO_CPP_SANITIZE=address,undefined or thread: applies to everything built here.
if(PALO_CPP_SANITIZE)
  set(CMAKE_CXX_FLAGS_RELEASE "-O1") # instrumented code gains little from more, and takes minutes longer to build
  add_compile_options(-fsanitize=${PALO_CPP_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${PALO_CPP_SANITIZE})
endif()
