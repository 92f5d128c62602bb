"""What a GGUF file holds, for `palo-cpp show`."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelFormatError
from palo_cpp.families.palo.chat_template import VICUNA_V1
from palo_cpp.families.palo.image_tokens import n_image_tokens
from palo_cpp.ggml.gguf_header import GgufHeader, read_header
from palo_cpp.ggml.llama_library import llama_library

_MIB = 1024**2
_N_CTX = 2048
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # a name in a file must not move the terminal's cursor
_FILE_TYPE_NAME = re.compile(r"LLAMA_FTYPE_(?:ALL|MOSTLY)_(\w+)")


@dataclass(frozen=True)
class Summary:
    """One GGUF file in short. Fields that do not apply to its kind are None.

    Attributes:
        kind: `text` (the decoder) or `mmproj` (vision tower and projector).
        sizes: name -> number, as `n_embd` or `image_size`.
        types: tensor type -> number of tensors.
        memory_bytes: weights, and for the decoder also 2048 tokens of KV cache in f16.
    """

    path: str
    kind: str
    name: str | None
    architecture: str
    file_type: str
    n_bytes: int
    n_tensors: int
    n_parameters: int
    sizes: dict[str, int | float]
    types: dict[str, int]
    pair_id: str | None
    license: str | None
    source: str | None
    memory_bytes: int
    languages: list[str] | None = None
    chat_template: str | None = None
    tokenizer_legacy: bool | None = None
    projector: str | None = None
    n_image_tokens: int | None = None
    preprocess: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The summary as text, one fact a line."""
        what = {"text": "language model", "mmproj": "vision tower and projector"}[self.kind]
        rows: list[tuple[str, object]] = [
            ("file", self.path),
            ("kind", what),
            ("name", self.name),
            ("architecture", self.architecture),
            ("type", self.file_type),
            ("size", f"{self.n_bytes / _MIB:.1f} MiB"),
            ("parameters", f"{self.n_parameters / 1e6:.1f} million in {self.n_tensors} tensors"),
            *self.sizes.items(),
            ("tensor types", ", ".join(f"{n} x {kind}" for kind, n in self.types.items())),
            ("projector", self.projector),
            ("image tokens", self.n_image_tokens),
            ("preprocessing", self.preprocess),
            ("languages", " ".join(self.languages) if self.languages else None),
            ("chat template", self.chat_template),
            ("license", self.license),
            ("source", self.source),
            ("pair id", self.pair_id),
            (
                "memory",
                f"{self.memory_bytes / _MIB:.0f} MiB" + (f" with {_N_CTX} tokens" if self.kind == "text" else ""),
            ),
        ]
        return [f"{label:<15} {_CONTROL.sub(_escaped, str(value))}" for label, value in rows if value is not None]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _escaped(control: re.Match[str]) -> str:
    return ascii(control[0])[1:-1]


# label -> key; `{}` is the architecture.
_TEXT_SIZES = {
    "n_layer": "{}.block_count",
    "n_embd": "{}.embedding_length",
    "n_ff": "{}.feed_forward_length",
    "n_head": "{}.attention.head_count",
    "n_head_kv": "{}.attention.head_count_kv",
    "n_ctx_train": "{}.context_length",
    "rope_theta": "{}.rope.freq_base",
}
_MMPROJ_SIZES = {
    "image_size": "clip.vision.image_size",
    "patch_size": "clip.vision.patch_size",
    "n_layer": "clip.vision.block_count",
    "n_embd": "clip.vision.embedding_length",
    "n_ff": "clip.vision.feed_forward_length",
    "n_head": "clip.vision.attention.head_count",
    "projection_dim": "clip.vision.projection_dim",
}


_TOWER_SIZES = {
    "image_size": "{}.image_size",
    "patch_size": "{}.patch_size",
    "n_layer": "{}.block_count",
    "n_embd": "{}.embedding_length",
    "n_ff": "{}.feed_forward_length",
    "n_head": "{}.attention.head_count",
    "projection_dim": "{}.projection_dim",
}


def summarize_file(path: Path) -> Summary:
    """See `palo_cpp.convert.summarize`, which this does."""
    header = read_header(path)
    architecture = header.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise ModelFormatError(f"{path.name}: expected a key general.architecture; this is no model file")
    facts = _mmproj_facts(header) if header.is_mmproj else _text_facts(header, architecture)
    n_weights = sum(tensor.n_bytes for tensor in header.tensors.values())
    return Summary(
        path=str(path),
        kind="mmproj" if header.is_mmproj else "text",
        name=_text(header, "general.name"),
        architecture=architecture,
        file_type=_file_type(header),
        n_bytes=header.size_bytes,
        n_tensors=len(header.tensors),
        n_parameters=sum(_product(tensor.shape) for tensor in header.tensors.values()),
        types=dict(Counter(_type_name(tensor.type) for tensor in header.tensors.values()).most_common()),
        pair_id=header.pair_id,
        license=_text(header, "general.license.name") or _text(header, "general.license"),
        source=_text(header, "general.source.url"),
        memory_bytes=n_weights + facts.pop("more_memory_bytes", 0),
        **facts,
    )


def _text_facts(header: GgufHeader, architecture: str) -> dict[str, Any]:
    sizes = _sizes(header, {label: key.format(architecture) for label, key in _TEXT_SIZES.items()})
    sizes["n_vocab"] = header.arrays.get("tokenizer.ggml.tokens", 0)
    n_head = int(sizes.get("n_head", 0)) or 1
    head_dim = header.metadata.get(f"{architecture}.attention.key_length", int(sizes.get("n_embd", 0)) // n_head)
    kv_width = int(sizes.get("n_head_kv", n_head)) * (head_dim if isinstance(head_dim, int) else 0)
    template = _text(header, "tokenizer.chat_template")
    legacy = header.metadata.get("palo.tokenizer_legacy")
    return {
        "sizes": sizes,
        "languages": list(header.languages) or None,
        "chat_template": None if template is None else "vicuna_v1" if template == VICUNA_V1 else "another one",
        "tokenizer_legacy": legacy if isinstance(legacy, bool) else None,
        "more_memory_bytes": _N_CTX * int(sizes.get("n_layer", 0)) * kv_width * 2 * 2,
    }


def _mmproj_facts(header: GgufHeader) -> dict[str, Any]:
    architecture = header.metadata.get("general.architecture")
    if architecture != "clip":  # a tower of another family, whose keys are named after it
        return _tower_facts(header, str(architecture))
    kind = _text(header, "clip.projector_type")
    sizes = _sizes(header, _MMPROJ_SIZES)
    patch_size = int(sizes.get("patch_size", 0))
    side = int(sizes.get("image_size", 0)) // patch_size if patch_size > 0 else 0
    is_known = side > 0 and kind is not None
    return {
        "sizes": sizes,
        "projector": kind,
        "n_image_tokens": n_image_tokens(str(kind), side) if is_known else None,
        "preprocess": _text(header, "palo.image_preprocess"),
        "languages": list(header.languages) or None,
    }


def _tower_facts(header: GgufHeader, architecture: str) -> dict[str, Any]:
    n_queries = header.metadata.get(f"{architecture}.query_count")
    return {
        "sizes": _sizes(header, {label: key.format(architecture) for label, key in _TOWER_SIZES.items()}),
        "n_image_tokens": n_queries if isinstance(n_queries, int) else None,
        "preprocess": _text(header, "palo.image_preprocess"),
        "languages": list(header.languages) or None,
    }


def _sizes(header: GgufHeader, keys: dict[str, str]) -> dict[str, int | float]:
    found = {label: header.metadata.get(key) for label, key in keys.items()}
    return {k: v for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < 2**40}


def _text(header: GgufHeader, key: str) -> str | None:
    value = header.metadata.get(key)
    return value if isinstance(value, str) else None


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for dimension in shape:
        product *= dimension
    return product


def _type_name(number: int) -> str:
    """Asked of ggml, for the gguf package does not know its newest types."""
    library = llama_library()._lib
    library.ggml_type_name.restype, library.ggml_type_name.argtypes = ctypes.c_char_p, (ctypes.c_int,)
    name = library.ggml_type_name(number)
    return name.decode().upper() if name else f"type {number}"


def _file_type(header: GgufHeader) -> str:
    """`F16`, `Q4_K_M`, ... as llama.h names the number: `LLAMA_FTYPE_ALL_F32`, `LLAMA_FTYPE_MOSTLY_Q4_K_M`."""
    number = header.metadata.get("general.file_type")
    for name, known in vars(llama_library()).items():
        if known == number and (match := _FILE_TYPE_NAME.fullmatch(name)):
            return match[1]
    return "unknown"
