"""Quantize GGUF files: by llama.cpp's own quantizer where it knows the architecture, else tensor by tensor here."""

from __future__ import annotations

import logging
import re
import subprocess
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from palo_cpp.child_process import child_command
from palo_cpp.errors import ArgumentError, ModelFormatError
from palo_cpp.ggml.gguf_header import GgufHeader, read_header
from palo_cpp.partial_files import partial_files

from .block_types import estimated_bytes, output_type, tensor_bytes
from .encoding import encode
from .families import FileKind, file_kinds
from .file_types import FILE_TYPES, NEED_IMPORTANCE_MATRIX, UNQUANTIZED
from .progress import ProgressCallback, ProgressCounter
from .tensor_spec import TensorSpec

if TYPE_CHECKING:
    import gguf

_log = logging.getLogger("palo_cpp")

# Keys that say of which type the file is.
_WRITTEN_ANEW = ("general.architecture", "general.file_type", "general.quantization_version")
_FAILURE = re.compile(r"failed to quantize: (.*)")
_STEP = re.compile(r"\[\s*(\d+)/\s*(\d+)\]\s*(\S+)")


def quantize_file(source: Path, output: Path, outtype: str, n_threads: int, report: ProgressCallback | None) -> Path:
    """See `palo_cpp.convert.quantize`, which this does."""
    header = read_header(source)
    kind = _kind(header)
    _check_type(source, kind, outtype)
    if output.exists() and output.samefile(source):
        raise ArgumentError(f"{output}: is the source itself; files are never quantized in place, choose another name")
    if output.is_dir():
        output = output / _output_name(source, header, outtype)
    _check_quantizable(header, kind, outtype.lower())
    shapes = [tensor.shape for tensor in header.tensors.values()]
    with partial_files(output.parent, estimated_bytes(_without_ones(shapes), outtype.lower())) as partial:
        path = partial.new(output.name)
        progress = ProgressCounter(report, len(header.tensors), sum(t.n_bytes for t in header.tensors.values()))
        if kind.is_llama:
            quantize_text(source, path, outtype.lower(), n_threads, progress)
        else:
            quantize_directly(source, path, kind, outtype.lower(), progress)
        return partial.publish({path: output.name})[0]


def _kind(header: GgufHeader) -> FileKind:
    """Only the families' own architectures have been checked."""
    kinds, architecture = file_kinds(), header.metadata.get("general.architecture")
    if architecture not in kinds:
        raise ModelFormatError(f"{header.path.name}: expected architecture {' or '.join(kinds)}, got {architecture!r}")
    return kinds[str(architecture)]


def _check_type(source: Path, kind: FileKind, outtype: str) -> None:
    known = ", ".join(kind.types)
    if outtype.lower() in NEED_IMPORTANCE_MATRIX:
        raise ArgumentError(f"{outtype}: llama.cpp needs an importance matrix for it; choose one of {known}")
    if outtype.lower() not in kind.types:
        raise ArgumentError(f"{source.name}: expected one of {known}, got {outtype!r}")


def _without_ones(shapes: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Ggml pads shapes with ones: (n, 1, 1, 1) is a vector."""
    return [tuple(d for i, d in enumerate(shape) if i == 0 or d > 1) for shape in shapes]


def _output_name(source: Path, header: GgufHeader, outtype: str) -> str:
    """`NAME-F16.gguf` -> `NAME-Q4_K_M.gguf`: the old type, if the name ends in one, makes room for the new one."""
    stem = re.sub(r"[-.](f32|f16|bf16|i?t?q\d\w*)$", "", source.stem, flags=re.IGNORECASE)
    prefix = "mmproj-" if header.is_mmproj and not stem.startswith("mmproj") else ""
    name = f"{prefix}{stem}-{outtype.upper()}.gguf"
    if name == source.name:
        raise ArgumentError(f"{source.name}: is {outtype} already; choose another type or name the output file")
    return name


def _check_quantizable(header: GgufHeader, kind: FileKind, outtype: str) -> None:
    """Quantizing what is quantized already would lose twice."""
    if not header.tensors:
        raise ModelFormatError(f"{header.path.name}: holds no tensors")
    if header.metadata.get("split.count", 0):
        raise ModelFormatError(f"{header.path.name}: is one part of several; merge them with llama-gguf-split first")
    coarse = {t.type for t in header.tensors.values()} - {0, 1, 30}  # ggml_type: f32, f16, bf16
    if coarse and not (not kind.is_llama and coarse == {8} and outtype != "q8_0"):
        raise ModelFormatError(
            f"{header.path.name}: expected f32, f16 or bf16 weights, got quantized ones; "
            "quantize the unquantized file, or convert the checkpoint again"
        )


def quantize_text(source: Path, output: Path, outtype: str, n_threads: int, progress: ProgressCounter) -> None:
    """Run llama.cpp's quantizer in a process of its own.

    Raises:
        ModelFormatError: llama.cpp refuses the file, or ends abnormally.
    """
    n_bytes = source.stat().st_size
    process = subprocess.Popen(
        _command(source, output, outtype, n_threads),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        assert process.stdout is not None
        last_lines = _follow(process.stdout, n_bytes, progress)
        status = process.wait()
    finally:
        process.kill()  # no effect where it has ended
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if status != 0:
        raise ModelFormatError(
            f"{source.name}: llama.cpp cannot quantize it to {outtype} ({_reason(last_lines, status)})"
        )


def _command(source: Path, output: Path, outtype: str, n_threads: int) -> list[str]:
    arguments = [
        str(source.resolve()),
        str(output.resolve()),
        str(FILE_TYPES[outtype][0]),
        str(n_threads or _n_cores()),
    ]
    return child_command("palo_cpp.convert.quantizer_process", *arguments)


def _n_cores() -> int:
    from palo_cpp.machine import n_physical_cores

    return n_physical_cores()


def _follow(stdout: IO[str], n_bytes: int, progress: ProgressCounter) -> deque[str]:
    """Turn the quantizer's log into progress; returns its last lines, for an error message."""
    last_lines: deque[str] = deque(maxlen=20)
    for line in map(str.strip, stdout):
        _log.debug("quantizer: %s", line)
        last_lines.append(line)
        if match := _STEP.search(line):
            progress.add(1, n_bytes // int(match[2]), match[3])
    return last_lines


def _reason(lines: deque[str], status: int) -> str:
    if status < 0:
        return f"the process ended by signal {-status}"
    errors = [match[1] for line in lines if (match := _FAILURE.search(line))]
    return errors[-1] if errors else (lines[-1] if lines else f"status {status}")


def quantize_directly(source: Path, output: Path, kind: FileKind, outtype: str, progress: ProgressCounter) -> None:
    """Write a file again with its matrices in another type; keys and vectors stay as they are."""
    import gguf

    reader = _reader(source)
    writer = gguf.GGUFWriter(None, kind.architecture)
    _copy_keys(reader, writer, outtype)
    if kind.role == "text" and outtype not in UNQUANTIZED:
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    tensors = list(zip(reader.tensors, _new_types(reader, kind, outtype), strict=True))
    for tensor, type_name in tensors:
        shape = _row_major(tensor)
        ggml_type = gguf.GGMLQuantizationType[type_name]
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), tensor_bytes(shape, type_name), ggml_type)
    try:
        writer.write_header_to_file(output)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor, type_name in tensors:
            writer.write_tensor_data(_requantized(tensor, type_name))
            progress.add(1, int(tensor.n_bytes), str(tensor.name))
    finally:
        writer.close()


def _reader(path: Path) -> gguf.GGUFReader:
    import gguf

    try:
        return gguf.GGUFReader(path)
    except (ValueError, KeyError, IndexError, OverflowError, UnicodeError) as error:
        raise ModelFormatError(f"{path.name}: damaged GGUF file ({error}); make it again") from None


def _copy_keys(reader: gguf.GGUFReader, writer: gguf.GGUFWriter, outtype: str) -> None:
    for key, entry in reader.fields.items():
        if key.startswith("GGUF.") or key in _WRITTEN_ANEW:
            continue
        sub_type = entry.types[-1] if len(entry.types) > 1 else None
        writer.add_key_value(key, entry.contents(), entry.types[0], sub_type)
    writer.add_file_type(FILE_TYPES[outtype][0])


def _row_major(tensor: gguf.ReaderTensor) -> tuple[int, ...]:
    return tuple(int(d) for d in reversed(tensor.shape))


def _new_types(reader: gguf.GGUFReader, kind: FileKind, outtype: str) -> list[str]:
    """Of all tensors, by the rules of the converter."""
    shapes = {str(tensor.name): _row_major(tensor) for tensor in reader.tensors}
    specs = [TensorSpec(name, name, shape, shape, kind.precision(name, shape)) for name, shape in shapes.items()]
    own = kind.own_types(specs, outtype)
    return [own.get(spec.gguf) or output_type(spec, outtype) for spec in specs]


def _requantized(tensor: gguf.ReaderTensor, type_name: str) -> Any:
    from gguf.quants import dequantize

    if tensor.tensor_type.name == type_name:
        return tensor.data
    if tensor.tensor_type.name in ("F32", "F16"):  # piece by piece: an embedding of 355 million values is 1.4 GB in f32
        return encode(tensor.data.reshape(_row_major(tensor)), tensor.tensor_type.name, type_name, str(tensor.name))
    values = dequantize(tensor.data, tensor.tensor_type).reshape(_row_major(tensor))
    return encode(values, "F32", type_name, str(tensor.name))
