"""The program of a process that only loads both compiled libraries: one that was built for another CPU ends it."""

import llama_cpp

import palo_cpp._core  # noqa: F401  # loading it is the trial

llama_cpp.llama_backend_init()
