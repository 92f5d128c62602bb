"""Types of GGUF files, by llama.cpp's names."""

from __future__ import annotations

# name -> (llama.h's LLAMA_FTYPE number, bits per weight of its main type).
FILE_TYPES = {
    "f32": (0, 32.0),
    "f16": (1, 16.0),
    "bf16": (32, 16.0),
    "q8_0": (7, 8.5),
    "q6_k": (18, 6.5625),
    "q5_0": (8, 5.5),
    "q5_1": (9, 6.0),
    "q5_k_s": (16, 5.5),
    "q5_k_m": (17, 5.7),
    "q4_0": (2, 4.5),
    "q4_1": (3, 5.0),
    "q4_k_s": (14, 4.6),
    "q4_k_m": (15, 4.9),
    "iq4_nl": (25, 4.5),
    "iq4_xs": (30, 4.3),
    "q3_k_s": (11, 3.5),
    "q3_k_m": (12, 3.9),
    "q3_k_l": (13, 4.3),
    "iq3_s": (26, 3.5),
    "iq3_m": (27, 3.7),
    "q2_k": (10, 3.0),
    "tq1_0": (36, 1.7),
    "tq2_0": (37, 2.1),
    "q1_0": (40, 1.5),
    "q2_0": (41, 2.5),
    "mxfp4_moe": (38, 4.5),
}
# llama.cpp refuses these without an importance matrix, which this project does not make yet. (llama.h also numbers
# NVFP4, which its quantizer does not offer.)
NEED_IMPORTANCE_MATRIX = ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq3_xxs", "iq3_xs", "q2_k_s")

UNQUANTIZED = ("f32", "f16", "bf16")
# What can be written here, tensor by tensor; llama.cpp's own quantizer writes the rest, of architectures it knows.
DIRECT_TYPES = (*UNQUANTIZED, "q8_0")
LLAMA_TYPES = tuple(FILE_TYPES)
