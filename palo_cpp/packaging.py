"""A folder that is ready to be published, made from a checkpoint or from a model in GGUF files."""

from __future__ import annotations

import logging
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from palo_cpp.errors import ArgumentError

if TYPE_CHECKING:
    from palo_cpp.convert.conversion import Conversion
    from palo_cpp.convert.progress import ProgressCallback
    from palo_cpp.ggml.gguf_header import GgufHeader
    from palo_cpp.models.files import ModelFiles

_log = logging.getLogger("palo_cpp")

TYPES = ("q4_0", "q4_k_m", "q8_0")
MMPROJ_TYPES = ("f16", "q8_0")
_UNQUANTIZED = {0, 1, 30}  # ggml_type: f32, f16, bf16
_WORK = ".palo-cpp-package"  # folder for what is not finished, in the output folder


@dataclass(frozen=True)
class Part:
    """A file that the folder is to have.

    Attributes:
        role: `text` or `mmproj`.
        outtype: type of its weights, in lower case.
        name: of the file.
        n_bytes: about its size.
    """

    role: str
    outtype: str
    name: str
    n_bytes: int


class Watch(Protocol):
    """Shows how far it is."""

    def making(self) -> AbstractContextManager[ProgressCallback | None]:
        """While a file is converted or quantized."""

    def hashing(self, name: str) -> AbstractContextManager[object]:
        """While a file is read again."""


class Source(Protocol):
    """What the files are made from."""

    @property
    def stem(self) -> str:
        """The model's name, as the files have it."""

    @property
    def parts(self) -> Sequence[Part]:
        """What can be made of it, for the types that the user wants."""

    def make(self, missing: Sequence[Part], work: Path, watch: Watch) -> Iterator[tuple[Part, Path]]:
        """Make the missing files in a folder, one after the other."""


# ---- from GGUF files


class GgufSource:
    """A model in GGUF files that is here.

    Args:
        files: of the model.
        types: of the language model that are wanted; None is all usual ones, or its own where it is quantized.
        name: of the model; by default that of its file.

    Raises:
        ArgumentError: a type that cannot be made of it.
    """

    def __init__(self, files: ModelFiles, types: Sequence[str] | None, name: str | None) -> None:
        from palo_cpp.models.file_choice import model_stem

        self.stem = name or model_stem(files.text.path.name)
        self._headers = {"text": files.text} | ({"mmproj": files.mmproj} if files.mmproj else {})
        wanted = {"text": _text_types(files.text, types)}
        if files.mmproj:
            own = own_type(files.mmproj)
            wanted["mmproj"] = MMPROJ_TYPES if _is_unquantized(files.mmproj) else (own,)
        self.parts = [self._part(role, outtype) for role, types in wanted.items() for outtype in types]

    def _part(self, role: str, outtype: str) -> Part:
        prefix = "mmproj-" if role == "mmproj" else ""
        name = f"{prefix}{self.stem}-{outtype.upper()}.gguf"
        header = self._headers[role]
        n_bytes = header.size_bytes if own_type(header) == outtype else _estimate(header, outtype)
        return Part(role, outtype, name, n_bytes)

    def make(self, missing: Sequence[Part], work: Path, watch: Watch) -> Iterator[tuple[Part, Path]]:
        """See `Source`."""
        from palo_cpp.convert import quantize
        from palo_cpp.models.checksums import copy_hashed

        for part in missing:
            header, path = self._headers[part.role], work / part.name
            if own_type(header) == part.outtype:
                copy_hashed(header.path, path)
            else:
                with watch.making() as progress:
                    quantize(header.path, path, part.outtype, progress=progress)
            yield part, path


def own_type(header: GgufHeader) -> str:
    """Type of a file's weights: as its name says, else as its keys do."""
    from palo_cpp.convert import summarize
    from palo_cpp.models.file_choice import outtype_of

    return (outtype_of(header.path.name) or summarize(header.path).file_type).lower()


def _is_unquantized(header: GgufHeader) -> bool:
    return {tensor.type for tensor in header.tensors.values()} <= _UNQUANTIZED


def _text_types(text: GgufHeader, types: Sequence[str] | None) -> Sequence[str]:
    if _is_unquantized(text):
        return types or TYPES
    own = own_type(text)
    if types and set(types) != {own}:
        raise ArgumentError(
            f"{text.path.name}: expected an unquantized model for --types {','.join(types)}, got one quantized to "
            f"{own}; package it with --types {own}, or give its F16 file or its checkpoint"
        )
    return (own,)


def _estimate(header: GgufHeader, outtype: str) -> int:
    """About how large a file becomes; llama.cpp keeps some tensors at a finer type, hence the margin."""
    from palo_cpp.convert.file_types import FILE_TYPES

    n_values = sum(math.prod(tensor.shape) for tensor in header.tensors.values())
    return int(n_values * FILE_TYPES[outtype][1] / 8 * 1.1) + len(header.tokens) * 32


# ---- from a checkpoint


class CheckpointSource:
    """A checkpoint, which is read once for each type: nothing unquantized has to lie on the disk.

    Args:
        arguments: of `convert`: source, vision_tower, base, name.
        types: of the language model.
        folder: of the package.

    Raises:
        PaloError: as `convert`.
    """

    def __init__(self, arguments: dict[str, Any], types: Sequence[str], folder: Path) -> None:
        self._arguments = arguments
        pairs = zip_longest(types, MMPROJ_TYPES, fillvalue="f16")
        plans = [self._convert(folder / _WORK, text, mmproj, dry_run=True).plan for text, mmproj in pairs]
        self.stem = plans[0].name
        self.warnings = plans[0].warnings
        files = [(role, plan.file(role)) for plan in plans for role in ("text", "mmproj")]
        found = {file.file_name: Part(role, file.outtype.lower(), file.file_name, file.n_bytes) for role, file in files}
        self.parts = [part for role in ("text", "mmproj") for part in found.values() if part.role == role]

    def _convert(
        self,
        output: Path,
        outtype: str,
        mmproj_outtype: str,
        progress: ProgressCallback | None = None,
        *,
        dry_run: bool = False,
    ) -> Conversion:
        from palo_cpp.convert import convert

        arguments = {**self._arguments, "output": output, "outtype": outtype, "mmproj_outtype": mmproj_outtype}
        return convert(**arguments, dry_run=dry_run, progress=progress)

    def make(self, missing: Sequence[Part], work: Path, watch: Watch) -> Iterator[tuple[Part, Path]]:
        """See `Source`."""
        by_role = {role: [part for part in missing if part.role == role] for role in ("text", "mmproj")}
        any_of = {role: next(part for part in self.parts if part.role == role) for role in by_role}
        for text, mmproj in zip_longest(by_role["text"], by_role["mmproj"]):
            outtype, mmproj_outtype = (text or any_of["text"]).outtype, (mmproj or any_of["mmproj"]).outtype
            with watch.making() as progress:
                done = self._convert(work, outtype, mmproj_outtype, progress)
            if text:
                yield text, done.model_path
            if mmproj:
                yield mmproj, done.mmproj_path


# ---- the folder


@dataclass(frozen=True)
class Package:
    """A finished folder.

    Attributes:
        folder: where it is.
        source: what it was made from.
        sums: name of a GGUF file -> SHA-256.
        new: names of the files that were made now.
    """

    folder: Path
    source: Source
    sums: dict[str, str]
    new: tuple[str, ...]


def make_package(source: Source, folder: Path, watch: Watch) -> Package:
    """Make what the folder lacks; files that are listed and right stay.

    Raises:
        PaloError: a file that is not the package's, too little room, or what `convert` and `quantize` raise.
    """
    from palo_cpp.models.checksums import publish_listed, read_sums
    from palo_cpp.partial_files import partial_files

    _check_name(source.stem)
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"{folder}: expected a folder, got a file; choose another name")
    shutil.rmtree(folder / _WORK, ignore_errors=True)  # of a run that was killed
    sums, made = read_sums(folder), []
    _check_alone(source, folder, sums)
    missing = [part for part in source.parts if not _is_whole(folder / part.name, sums, watch)]
    with partial_files(folder, sum(part.n_bytes for part in missing)) as partial, _work_folder(folder) as work:
        for part, path in source.make(missing, work, watch):
            _check_pair(path, folder)
            sums[part.name] = _hashed(path, watch)
            publish_listed(partial, {path: part.name}, sums)
            made.append(part.name)
    return Package(folder, source, {name: sums[name] for name in _gguf_names(folder)}, tuple(made))


def _gguf_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.gguf"))


def _check_name(stem: str) -> None:
    if not re.fullmatch(r"[\w+-][\w.+-]*", stem):
        raise ArgumentError(f"--name: expected letters, digits and . _ + - (it becomes a file name), got {stem[:80]!r}")


def _check_alone(source: Source, folder: Path, sums: dict[str, str]) -> None:
    """One model a folder, and nothing of the user's is overwritten."""
    from palo_cpp.models.file_choice import model_stem

    for name in _gguf_names(folder):
        if model_stem(name) != source.stem:
            raise ArgumentError(
                f"{folder}: expected a folder for {source.stem} alone, got {name} in it; choose another one"
            )
        if name not in sums:
            raise ArgumentError(
                f"{folder / name}: expected only files that {folder.name}/SHA256SUMS lists, got another; move it away, "
                "or choose another folder"
            )


def _is_whole(path: Path, sums: dict[str, str], watch: Watch) -> bool:
    if not path.exists():
        return False
    if _hashed(path, watch) == sums.get(path.name):
        return True
    _log.warning("%s is not what SHA256SUMS says and is made again", path)
    return False


def _hashed(path: Path, watch: Watch) -> str:
    from palo_cpp.models.checksums import sha256_of

    with watch.hashing(path.name):
        return sha256_of(path)


def _check_pair(path: Path, folder: Path) -> None:
    """Refuse to put a file among those of another checkpoint that has the same name."""
    from palo_cpp.ggml.gguf_header import read_header

    pair_id = read_header(path).pair_id
    for name in _gguf_names(folder):
        if name != path.name and read_header(folder / name).pair_id != pair_id:
            raise ArgumentError(
                f"{folder / name}: expected a file of the same checkpoint as {path.name}, got one of another "
                "(palo.pair_id differs); choose another folder"
            )


@contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    work = folder / _WORK
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
