"""The program of the process that quantizes: llama.cpp's `llama_model_quantize`, and nothing else.

It is a process of its own because the C function cannot be interrupted, and because a failed GGML_ASSERT in it ends
whatever process it runs in. It writes llama.cpp's log to its standard output, which the parent reads.
"""

from __future__ import annotations

import logging
import sys

_PIECE_BYTES = 256 * 1024**2  # of tensor rows in memory at once; llama.cpp's default is 8 GiB


def main(source: str, output: str, file_type: str, n_threads: str) -> int:
    """Quantize; returns llama.cpp's status, 0 for success."""
    from palo_cpp.ggml.llama_library import llama_library

    logging.basicConfig(stream=sys.stdout, level=logging.DEBUG, format="%(levelname)s %(message)s")
    library = llama_library()
    parameters = library.llama_model_quantize_default_params()
    parameters.ftype = int(file_type)
    parameters.nthread = int(n_threads)
    parameters.max_buf_size = _PIECE_BYTES
    return int(library.llama_model_quantize(source.encode(), output.encode(), parameters))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
