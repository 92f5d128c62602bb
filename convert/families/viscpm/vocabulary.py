"""The user's vocab.txt: it is read from the checkpoint's folder and never comes with this package."""

from __future__ import annotations

from pathlib import Path

from palo_cpp.errors import ModelFormatError, ModelNotFoundError
from palo_cpp.families.viscpm.tokenizer import BeeTokenizer

NAME = "vocab.txt"
_MAX_BYTES = 64 * 1024**2  # the published one has 629 kB


def read_vocabulary(folder: Path, n_vocab: int) -> BeeTokenizer:
    """Read and check it.

    Args:
        folder: of the checkpoint.
        n_vocab: rows of the embedding.

    Raises:
        ModelNotFoundError: it is not there.
        ModelFormatError: it is damaged, or of another model.
    """
    path = folder / NAME
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: expected the vocabulary, got no file; fetch it from openbmb/VisCPM-Chat")
    if path.stat().st_size > _MAX_BYTES:
        raise ModelFormatError(
            f"{path}: expected at most {_MAX_BYTES} bytes, got {path.stat().st_size}; fetch it again"
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelFormatError(
            f"{path}: expected UTF-8, got {error.reason} at byte {error.start}; fetch it again"
        ) from None
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    tokenizer = BeeTokenizer(lines, str(path))
    if tokenizer.n_vocab != n_vocab:
        raise ModelFormatError(
            f"{path}: expected {n_vocab} lines, as the embedding has rows, got {tokenizer.n_vocab}; "
            "put the vocabulary of this checkpoint there"
        )
    return tokenizer
