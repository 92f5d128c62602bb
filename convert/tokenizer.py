"""A LLaMA tokenizer, in whichever file a checkpoint has it."""

from __future__ import annotations

from pathlib import Path

from palo_cpp.errors import ModelNotFoundError

from .sentencepiece_model import read_sentencepiece
from .token_table import TokenTable
from .tokenizer_json import read_tokenizer_json

# In this order: the SentencePiece model is what the other was made from.
_READERS = {"tokenizer.model": read_sentencepiece, "tokenizer.json": read_tokenizer_json}


def read_tokenizer(folders: list[Path], n_vocab: int) -> tuple[TokenTable, Path]:
    """Read the tokenizer of the first folder that has one.

    Args:
        folders: the checkpoint's, then the one of its base model.
        n_vocab: rows of the embedding matrix.

    Returns:
        The vocabulary, and the folder that it is from.

    Raises:
        ModelNotFoundError: none of them has one.
        ModelFormatError: damaged, or of a kind that llama.cpp would tokenize differently.
    """
    for folder in folders:
        for name, read in _READERS.items():
            if (folder / name).is_file():
                return read(folder / name, n_vocab), folder
    names = " or ".join(_READERS)
    raise ModelNotFoundError(f"{folders[0]}: no {names}; copy one of them there from the base model")
