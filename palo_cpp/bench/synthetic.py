"""Models with random weights of the true shapes, written as GGUF files into the cache folder."""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from palo_cpp.bench.cache_folder import synthetic_folder
from palo_cpp.bench.random_blocks import n_bytes, random_tensor
from palo_cpp.bench.sizes import STUB_SUFFIX, ModelSizes
from palo_cpp.bench.text_types import TypeOf, check_text_type, text_type
from palo_cpp.convert.block_types import output_type
from palo_cpp.convert.families.palo.files import add_mmproj_keys, add_text_keys
from palo_cpp.convert.families.palo.tensor_rows import projector_specs, text_specs, vision_specs
from palo_cpp.convert.file_types import DIRECT_TYPES, FILE_TYPES
from palo_cpp.convert.tensor_spec import TensorSpec
from palo_cpp.convert.token_table import BYTE, CONTROL, NORMAL, UNKNOWN, TokenTable
from palo_cpp.errors import ArgumentError
from palo_cpp.partial_files import partial_files

if TYPE_CHECKING:
    import gguf

Report = Callable[[str], None]
_N_SPECIAL, _N_BYTES = 3, 256
_GIB, _MIB = 1024**3, 1024**2


def synthetic_text(
    sizes: ModelSizes,
    outtype: str,
    *,
    seed: int = 0,
    report: Report = lambda _: None,
    folder: Path | None = None,
) -> Path:
    """Find the random decoder in the cache, or write it there.

    The file appears whole or not at all, and one tensor at a time is in memory.

    Args:
        sizes: the model.
        outtype: type of the weights.
        seed: the same seed gives the same bytes.
        report: called with what is being written.
        folder: another place than the cache.

    Raises:
        ArgumentError: an unknown type, or one whose blocks do not fit the sizes.
        PaloError: not enough room on the disk.
    """
    outtype = check_text_type(outtype)
    path = (folder or _folder(sizes)) / f"{_name(sizes, seed)}-{outtype.upper()}.gguf"
    if not path.is_file():
        keys, specs = _keys("llama", "model", sizes, outtype, seed), text_specs(sizes.text)
        add_text_keys(keys, sizes.text, vocabulary(sizes.text.n_vocab))
        _write(path, keys, specs, lambda spec: text_type(spec, outtype, sizes.text.n_layer), seed, report)
    return path


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
    path = (folder or _folder(sizes)) / f"mmproj-{_name(sizes, seed)}-{outtype.upper()}.gguf"
    if not path.is_file():
        keys, specs = _keys("clip", "mmproj", sizes, outtype, seed), vision_specs(sizes.vision)
        add_mmproj_keys(keys, sizes.vision, sizes.projector, "pad")
        specs += projector_specs(sizes.projector)
        _write(path, keys, specs, lambda spec: output_type(spec, outtype), seed, report)
    return path


def _folder(sizes: ModelSizes) -> Path:
    return synthetic_folder(sizes.name.removesuffix(STUB_SUFFIX))


def _name(sizes: ModelSizes, seed: int) -> str:
    return f"synthetic-{sizes.name}" + (f"-seed{seed}" if seed else "")


def _keys(architecture: str, kind: str, sizes: ModelSizes, outtype: str, seed: int) -> gguf.GGUFWriter:
    """Keys that nobody takes for a real model's."""
    import gguf

    writer = gguf.GGUFWriter(None, architecture)
    writer.add_type(kind)
    writer.add_name(f"synthetic {sizes.name} (random weights, seed {seed})")
    writer.add_description("Random weights of the true shapes, to measure speed; answers are noise.")
    writer.add_bool("palo.synthetic", True)
    writer.add_string("palo.pair_id", f"synthetic-{sizes.name}-{seed}")
    writer.add_string("palo.version", "synthetic")
    writer.add_file_type(FILE_TYPES[outtype][0])
    return writer


def vocabulary(n_vocab: int) -> TokenTable:
    """A vocabulary laid out like LLaMA's: three special pieces, 256 bytes, then made-up pieces.

    Args:
        n_vocab: at least 259.

    Returns:
        Pieces, all different; the earlier a piece, the better its score.
    """
    special = [b"<unk>", b"<s>", b"</s>"]
    in_bytes = [f"<0x{value:02X}>".encode() for value in range(_N_BYTES)]
    letters = string.ascii_lowercase
    words = ("".join(word) for n in range(1, 5) for word in itertools.product(letters, repeat=n))
    # "\u2581" is SentencePiece's space; each word with and without one.
    pieces = itertools.chain(["\u2581"], (space + word for word in words for space in ("", "\u2581")))
    made_up = [piece.encode() for piece in itertools.islice(pieces, n_vocab - _N_SPECIAL - _N_BYTES)]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * _N_BYTES, *[NORMAL] * len(made_up)]
    return TokenTable(
        tokens=special + in_bytes + made_up,
        scores=[-float(i) for i in range(n_vocab)],
        types=types,
        bos_id=1,
        eos_id=2,
        unk_id=0,
        add_space_prefix=True,
        legacy=True,
        warnings=[],
    )


def _write(
    path: Path, writer: gguf.GGUFWriter, specs: list[TensorSpec], type_of: TypeOf, seed: int, report: Report
) -> None:
    n_total = sum(n_bytes(spec.gguf_shape, type_of(spec)) for spec in specs)
    report(f"writing {path.name} ({_size(n_total)}) into {path.parent}")
    with partial_files(path.parent, n_total) as partial:
        unfinished = partial.new(path.name)
        for n_done in _write_tensors(unfinished, writer, specs, type_of, seed):
            report(f"writing {path.name}: {100 * n_done // n_total} % of {_size(n_total)}")
        partial.publish({unfinished: path.name})


def _write_tensors(
    path: Path, writer: gguf.GGUFWriter, specs: list[TensorSpec], type_of: TypeOf, seed: int
) -> Iterator[int]:
    """Write keys and tensors; yields the bytes written so far."""
    import gguf

    for spec in specs:
        kind = gguf.GGMLQuantizationType[type_of(spec)]
        size = n_bytes(spec.gguf_shape, type_of(spec))
        writer.add_tensor_info(spec.gguf, spec.gguf_shape, np.dtype(np.float32), size, kind)
    n_done = 0
    try:
        writer.write_header_to_file(path)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for spec in specs:
            std, mean = _spread(spec)
            data = random_tensor(spec.gguf, spec.gguf_shape, type_of(spec), std=std, mean=mean, seed=seed)
            writer.write_tensor_data(data)
            n_done += data.nbytes
            yield n_done
    finally:
        writer.close()


def _spread(spec: TensorSpec) -> tuple[float, float]:
    """Standard deviation and mean: norms stay near one, and a matrix keeps the variance of what it multiplies."""
    shape = spec.gguf_shape
    if len(shape) == 1:
        return (0.1, 1.0) if spec.gguf.endswith(".weight") else (0.02, 0.0)
    return float(np.prod(shape[1:])) ** -0.5, 0.0


def _size(n: int) -> str:
    return f"{n / _GIB:.2f} GiB" if n >= _GIB else f"{n / _MIB:.1f} MiB"
