# PALO_CPP_SANITIZE=address,undefined or thread: applies to everything built here.
if(PALO_CPP_SANITIZE)
  add_compile_options(-fsanitize=${PALO_CPP_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${PALO_CPP_SANITIZE})
endif()
