"""Models with random weights of the true shapes, written as GGUF files into the cache folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from palo_cpp.bench.cache_folder import synthetic_folder
from palo_cpp.bench.random_blocks import n_bytes, random_tensor
from palo_cpp.bench.random_file import ModelSizes, RandomFile
from palo_cpp.convert.file_types import DIRECT_TYPES, FILE_TYPES
from palo_cpp.errors import ArgumentError
from palo_cpp.partial_files import partial_files

if TYPE_CHECKING:
    import gguf

Report = Callable[[str], None]
_STUB_SUFFIX = "-stub"
_GIB, _MIB = 1024**3, 1024**2


def synthetic_text(
    sizes: ModelSizes,
    outtype: str,
    *,
    seed: int = 0,
    is_stub: bool = False,
    report: Report = lambda _: None,
    folder: Path | None = None,
) -> Path:
    """Find the random language model in the cache, or write it there.

    The file appears whole or not at all, and one tensor at a time is in memory.

    Args:
        sizes: the model.
        outtype: type of the weights.
        seed: the same seed gives the same bytes.
        is_stub: make next to no language model, where images alone are encoded.
        report: called with what is being written.
        folder: another place than the cache.

    Raises:
        ArgumentError: an unknown type, or one whose blocks do not fit the sizes.
        PaloError: not enough room on the disk.
    """
    outtype = outtype.lower()
    content = (sizes.stub() if is_stub else sizes).text_file(outtype)
    name = sizes.name + (_STUB_SUFFIX if is_stub else "")
    return _found_or_written(sizes, content, name, outtype, seed, report, folder)


def synthetic_mmproj(
    sizes: ModelSizes,
    outtype: str,
    *,
    seed: int = 0,
    report: Report = lambda _: None,
    folder: Path | None = None,
) -> Path:
    """Find the random tower and projector in the cache, or write them there; as `synthetic_text`."""
    if outtype.lower() not in DIRECT_TYPES:
        raise ArgumentError(f"--mmproj-outtype: expected one of {', '.join(DIRECT_TYPES)}, got {outtype!r}")
    outtype = outtype.lower()
    return _found_or_written(sizes, sizes.mmproj_file(outtype), sizes.name, outtype, seed, report, folder)


def _found_or_written(
    sizes: ModelSizes,
    content: RandomFile,
    name: str,
    outtype: str,
    seed: int,
    report: Report,
    folder: Path | None,
) -> Path:
    full_name = f"synthetic-{name}" + (f"-seed{seed}" if seed else "")
    path = (folder or synthetic_folder(sizes.name)) / content.kind.name.format(name=full_name, type=outtype.upper())
    if not path.is_file():
        keys = _keys(content, name, outtype, seed)
        content.add_keys(keys)
        _write(path, keys, content, seed, report)
    return path


def _keys(content: RandomFile, name: str, outtype: str, seed: int) -> gguf.GGUFWriter:
    """Keys that nobody takes for a real model's."""
    import gguf

    writer = gguf.GGUFWriter(None, content.kind.architecture)
    writer.add_type(content.kind.gguf_type)
    writer.add_name(f"synthetic {name} (random weights, seed {seed})")
    writer.add_description("Random weights of the true shapes, to measure speed; answers are noise.")
    writer.add_bool("palo.synthetic", True)
    writer.add_string("palo.pair_id", f"synthetic-{name}-{seed}")
    writer.add_string("palo.version", "synthetic")
    writer.add_file_type(FILE_TYPES[outtype][0])
    return writer


def _write(path: Path, writer: gguf.GGUFWriter, content: RandomFile, seed: int, report: Report) -> None:
    n_total = sum(n_bytes(spec.gguf_shape, content.type_of(spec)) for spec in content.specs)
    report(f"writing {path.name} ({_size(n_total)}) into {path.parent}")
    with partial_files(path.parent, n_total) as partial:
        unfinished = partial.new(path.name)
        percents = (100 * n_done // n_total for n_done in _write_tensors(unfinished, writer, content, seed))
        for percent, _ in groupby(percents):
            report(f"writing {path.name}: {percent} % of {_size(n_total)}")
        partial.publish({unfinished: path.name})


def _write_tensors(path: Path, writer: gguf.GGUFWriter, content: RandomFile, seed: int) -> Iterator[int]:
    """Write keys and tensors; yields the bytes written so far."""
    import gguf

    for spec in content.specs:
        kind = gguf.GGMLQuantizationType[content.type_of(spec)]
        size = n_bytes(spec.gguf_shape, content.type_of(spec))
        writer.add_tensor_info(spec.gguf, spec.gguf_shape, np.dtype(np.float32), size, kind)
    n_done = 0
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for spec in content.specs:
            std, mean = content.spread(spec)
            data = random_tensor(spec.gguf, spec.gguf_shape, content.type_of(spec), std=std, mean=mean, seed=seed)
            writer.write_tensor_data(data)
            n_done += data.nbytes
            yield n_done
    finally:
        writer.close()


def _size(n: int) -> str:
    return f"{n / _GIB:.2f} GiB" if n >= _GIB else f"{n / _MIB:.1f} MiB"
