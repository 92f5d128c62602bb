"""What we use of llama.cpp's libraries, and what we put under them.

In: paths; out: the late import of llama_cpp, headers of GGUF files, our backend registered with ggml. Imports only the
leaves.
"""
