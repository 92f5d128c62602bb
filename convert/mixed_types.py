"""Which type llama.cpp's quantizer gives each tensor: most types are a mixture of finer and coarser ones.

The choice depends on names, number of layers and lengths of rows, but not on the number of rows nor on any value. So
the quantizer itself is asked, with two rows of zeros for each matrix.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from palo_cpp.ggml.gguf_header import read_header

from .progress import ProgressCounter
from .quantization import quantize_text
from .tensor_spec import TensorSpec

if TYPE_CHECKING:
    import gguf


def mixed_types(writer: gguf.GGUFWriter, specs: Iterable[TensorSpec], outtype: str) -> dict[str, str]:
    """Types by the tensors' names.

    Args:
        writer: holds the keys of a file in f16, of an architecture that llama.cpp knows; it is used up.
        specs: the file's tensors.
        outtype: what the quantizer is to make of it.

    Raises:
        ModelFormatError: llama.cpp refuses it.
    """
    import gguf

    for spec in specs:
        is_vector = len(spec.gguf_shape) == 1
        shape = spec.gguf_shape if is_vector else (2, *spec.gguf_shape[1:])
        writer.add_tensor(spec.gguf, np.zeros(shape, np.float32 if is_vector else np.float16))
    with tempfile.TemporaryDirectory(prefix="palo-cpp-") as folder:
        unquantized, quantized = Path(folder) / "f16.gguf", Path(folder) / "quantized.gguf"
        try:
            writer.write_header_to_file(unquantized)
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
        quantize_text(unquantized, quantized, outtype, 1, ProgressCounter(None, 1, 1))
        types = {name: tensor.type for name, tensor in read_header(quantized).tensors.items()}
    return {name: gguf.GGMLQuantizationType(number).name for name, number in types.items()}
