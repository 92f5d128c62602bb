"""Which of a repository's GGUF files are one model: by their names, as llama.cpp's `-hf` chooses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from palo_cpp.errors import ArgumentError, ModelNotFoundError

DEFAULT_OUTTYPE = "Q4_K_M"
_MMPROJ = "mmproj"
_TYPE = re.compile(r"(?:^|[-._])((?:UD-)?(?:I?Q[1-8](?:_[A-Z0-9]+)*|BF16|F16|F32))$", re.IGNORECASE)
_SPLIT = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass(frozen=True)
class ChosenFiles:
    """One model's files, by their paths in the repository.

    Attributes:
        text: the language model.
        mmproj: vision tower and projector; None where the repository has none.
    """

    text: str
    mmproj: str | None

    @property
    def paths(self) -> tuple[str, ...]:
        """Both."""
        return (self.text, self.mmproj) if self.mmproj else (self.text,)


def has_gguf(paths: Iterable[str]) -> bool:
    """Whether a repository has models in GGUF files."""
    return bool(texts_in(paths))


def outtype_of(path: str) -> str:
    """Type of the weights, as the name of a file says; "" where it does not."""
    found = _TYPE.search(PurePosixPath(path).stem)
    return found[1].upper() if found else ""


def model_stem(path: str) -> str:
    """What a model is called, as the name of one of its files says: without `mmproj-`, type and ending."""
    stem = PurePosixPath(path).stem
    if found := _TYPE.search(stem):
        stem = stem[: found.start()]
    return stem[len(_MMPROJ) :].lstrip("-_.") if is_mmproj_name(path) else stem


def choose_files(repository: str, paths: Iterable[str], outtype: str | None) -> ChosenFiles:
    """One model of a repository.

    Args:
        repository: for messages.
        paths: of all its files.
        outtype: type of the language model's weights; None takes Q4_K_M, or the one nearest to it.

    Raises:
        ModelNotFoundError: no GGUF files.
        ArgumentError: none of that type.
    """
    paths = list(paths)
    texts = texts_in(paths)
    if not texts:
        raise ModelNotFoundError(f"{repository}: expected GGUF files, got none; name a repository that has them")
    text = _chosen_text(repository, texts, outtype)
    beside = [path for path in paths if is_mmproj_name(path) and _folder(path) == _folder(text)]
    mmprojs = beside or [path for path in paths if is_mmproj_name(path)]
    bits = _bits(outtype_of(text))
    return ChosenFiles(text, min(mmprojs, key=lambda path: (abs(_bits(outtype_of(path)) - bits), path), default=None))


def _chosen_text(repository: str, texts: list[str], outtype: str | None) -> str:
    wanted = (outtype or DEFAULT_OUTTYPE).upper()
    if same := [path for path in texts if outtype_of(path) == wanted]:
        return min(same, key=lambda path: (path.count("/"), path))
    if outtype is None:
        return min(texts, key=lambda path: (abs(_bits(outtype_of(path)) - _bits(wanted)), path))
    known = ", ".join(sorted({outtype_of(path) or path for path in texts}))
    raise ArgumentError(f"{repository}:{outtype}: expected one of {known}, got {outtype}; choose one of them")


def texts_in(paths: Iterable[str]) -> list[str]:
    """The language models among the files of a repository."""
    return sorted(path for path in paths if _is_gguf(path) and not is_mmproj_name(path))


def _is_gguf(path: str) -> bool:
    return path.lower().endswith(".gguf") and not _SPLIT.search(PurePosixPath(path).stem)


def is_mmproj_name(path: str) -> bool:
    """Whether a file holds vision tower and projector, as its name says."""
    return _is_gguf(path) and PurePosixPath(path).name.lower().startswith(_MMPROJ)


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _bits(outtype: str) -> int:
    """Bits of a weight; a name that says none counts as F16."""
    found = re.search(r"\d+", outtype)
    return int(found[0]) if found else 16
