"""`tokenizer.model`, a SentencePiece model of kind BPE as LLaMA's, and its JSON files -> the token table of GGUF.

Where llama.cpp's tokenizer falls short of SentencePiece it is said.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelFormatError

from .json_file import read_json_if_any
from .token_table import BYTE, CONTROL, NORMAL, UNKNOWN, TokenRows, TokenTable

_MAX_MODEL_BYTES = 256 * 1024**2
_MODEL_TYPES = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


def read_sentencepiece(path: Path, n_vocab: int) -> TokenTable:
    """Read a LLaMA tokenizer.

    Args:
        path: tokenizer.model; beside it may lie added_tokens.json and tokenizer_config.json.
        n_vocab: rows of the embedding matrix; rows beyond the pieces become unused tokens.

    Raises:
        ModelFormatError: damaged, or a kind of SentencePiece model that llama.cpp would tokenize differently.
    """
    model = _parse_model(path)
    rows = TokenRows(path, n_vocab)
    for i, (piece, score, kind) in enumerate(model.pieces):
        rows.put(i, piece, score, kind)
    config = read_json_if_any(path.parent / "tokenizer_config.json")
    values: dict[str, Any] = config.values if config else {}
    _put_added_tokens(rows, path.parent, values)
    prefix, legacy = values.get("add_prefix_space"), values.get("legacy")
    return TokenTable(
        tokens=rows.tokens,
        scores=rows.scores,
        types=rows.types,
        bos_id=rows.checked_id("bos", model.bos_id),
        eos_id=rows.checked_id("eos", model.eos_id),
        unk_id=rows.checked_id("unk", model.unk_id),
        add_space_prefix=prefix if isinstance(prefix, bool) else model.add_dummy_prefix,
        # transformers' own default, when the flag is not given: LlamaTokenizer of 4.31 warns and takes the old way.
        legacy=True if legacy is None else bool(legacy),
        warnings=rows.warnings + model.warnings(path),
    )


def _put_added_tokens(rows: TokenRows, folder: Path, config: dict[str, Any]) -> None:
    added = read_json_if_any(folder / "added_tokens.json")
    for text, token_id in (added.values if added else {}).items():
        rows.put_added(token_id, text, special=False)
    decoder = config.get("added_tokens_decoder")
    for key, entry in (decoder if isinstance(decoder, dict) else {}).items():
        if not key.isdecimal() or not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise ModelFormatError(f"{folder / 'tokenizer_config.json'}: added_tokens_decoder: damaged entry {key!r}")
        rows.put_added(int(key), entry["content"], special=bool(entry.get("special")))


@dataclass(frozen=True)
class _Model:
    """What is needed of SentencePiece's ModelProto (google/sentencepiece, src/sentencepiece_model.proto)."""

    pieces: list[tuple[bytes, float, int]]
    kind: str
    bos_id: int
    eos_id: int
    unk_id: int
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    normalizer: str

    def warnings(self, path: Path) -> list[str]:
        """What llama.cpp's tokenizer would do differently."""
        found = []
        if self.normalizer not in ("", "identity"):
            found.append(
                f"{path}: normalizes with {self.normalizer}, llama.cpp does not: unusual text may split otherwise"
            )
        if self.remove_extra_whitespaces:
            found.append(f"{path}: removes repeated spaces, llama.cpp does not: such text may split otherwise")
        return found


def _parse_model(path: Path) -> _Model:
    """Read the model file; the sentencepiece package does not tell the types and the trainer's kind."""
    if path.stat().st_size > _MAX_MODEL_BYTES:
        raise ModelFormatError(f"{path}: expected a SentencePiece model, got {path.stat().st_size} bytes")
    try:
        model = _model(path.read_bytes())
    except (ValueError, IndexError, struct.error, UnicodeError, TypeError) as error:
        raise ModelFormatError(f"{path}: damaged SentencePiece model ({error}); fetch it again") from None
    if model.kind != "bpe" or not model.pieces:
        raise ModelFormatError(f"{path}: expected a SentencePiece model of kind bpe (LLaMA), got {model.kind}")
    return model


def _model(data: bytes) -> _Model:
    pieces, trainer, normalizer = [], dict[int, Any](), dict[int, Any]()
    for field, value in _fields(data):
        if field == 1:
            piece = dict(_fields(value))
            pieces.append(
                (bytes(piece[1]), struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0, piece.get(3, NORMAL))
            )
        elif field == 2:
            trainer = dict(_fields(value))
        elif field == 3:
            normalizer = dict(_fields(value))
    if any(kind not in range(NORMAL, BYTE + 1) for _, _, kind in pieces):
        raise ValueError("unknown type of piece")
    return _Model(
        pieces=pieces,
        kind=_MODEL_TYPES.get(trainer.get(3, 1), "unknown"),
        unk_id=_id_of(pieces, UNKNOWN, b"<unk>"),
        bos_id=_id_of(pieces, CONTROL, bytes(trainer.get(46, b"<s>"))),
        eos_id=_id_of(pieces, CONTROL, bytes(trainer.get(47, b"</s>"))),
        add_dummy_prefix=bool(normalizer.get(3, 1)),
        remove_extra_whitespaces=bool(normalizer.get(4, 1)),
        normalizer=bytes(normalizer.get(1, b"")).decode(),
    )


def _id_of(pieces: list[tuple[bytes, float, int]], kind: int, text: bytes) -> int:
    return next((i for i, piece in enumerate(pieces) if piece[2] == kind and (piece[0] == text or kind == UNKNOWN)), -1)


def _fields(data: bytes | memoryview) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer message: number and value (https://protobuf.dev/programming-guides/encoding)."""
    view, at = memoryview(data), 0
    while at < len(view):
        key, at = _varint(view, at)
        if key & 7 == 0:
            value, at = _varint(view, at)
            yield key >> 3, value
            continue
        n, at = {1: (8, at), 5: (4, at)}.get(key & 7) or _varint(view, at)
        if key & 7 not in (1, 2, 5) or at + n > len(view):
            raise ValueError("the file ends inside a field")
        yield key >> 3, view[at : at + n]
        at += n


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("an endless number")
