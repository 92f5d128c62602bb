"""A made-up family for the converter: it keeps the seam honest, for it is as unlike PALO as VisCPM is.

A state dict of its own names, scales to fold, positions to add, two files that llama.cpp does not know, two languages.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from palo_cpp.convert.checkpoint import CheckpointFolder, renamed
from palo_cpp.convert.families import Companions, FileKind, OutputFile
from palo_cpp.convert.file_types import DIRECT_TYPES
from palo_cpp.convert.json_file import Config
from palo_cpp.convert.stored_tensor import Tensors
from palo_cpp.convert.tensor_spec import TensorSpec, layered
from tensor_files import write_torch_zip

N_VOCAB, N_EMBD, N_QUERY, N_LAYER = 64, 32, 4, 2
SCALE = np.float32(1 / 101.193)

ECHO_TEXT = FileKind("text", "echo", "model", "{name}-{type}.gguf", DIRECT_TYPES, False, lambda *_: "any")
ECHO_VISION = FileKind(
    "mmproj",
    "echo-vision",
    "mmproj",
    "mmproj-{name}-{type}.gguf",
    DIRECT_TYPES,
    False,
    lambda name, _: "f32" if name == "v.query" else "any",
)
_ROWS = (
    ("llm.input_embedding.weight", "token_embd.weight", "ve"),
    ("llm.encoder.layers.{i}.project_q.weight", "blk.{i}.attn_q.weight", "ee"),
    ("llm.encoder.layers.{i}.norm.weight", "blk.{i}.attn_norm.weight", "e"),
)


def fold_scale(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values * SCALE


def add_positions(query: NDArray[np.float32], positions: NDArray[np.float32]) -> NDArray[np.float32]:
    """The queries stand at the positions from 2 on."""
    return query + positions[2 : 2 + len(query)]


@dataclass
class EchoModel:
    config: Config
    folders: set[Path]
    tensors: Tensors
    fold: Callable[..., NDArray[np.float32]] = fold_scale
    languages: tuple[str, ...] = ("zh", "en")
    facts: dict[str, str | int] = field(default_factory=lambda: {"n_query": N_QUERY})
    summary: str = f"{N_QUERY} queries"
    warnings: list[str] = field(default_factory=lambda: ["it only echoes"])

    @property
    def files(self) -> tuple[OutputFile, ...]:
        widths = {"v": N_VOCAB, "e": N_EMBD}
        text = []
        for source, name, letters in layered(_ROWS, N_LAYER):
            shape = tuple(widths[letter] for letter in letters)
            fold = self.fold if "attn_q" in name else None
            text.append(TensorSpec(source, name, shape, shape, transform=fold))
        shape = (N_QUERY, N_EMBD)
        positions = (("vpm.positions.B.weight", (N_QUERY + 3, N_EMBD)),)
        query = TensorSpec("query", "v.query", shape, shape, "f32", add_positions, positions)
        return OutputFile(ECHO_TEXT, text, self._add_text_keys), OutputFile(ECHO_VISION, [query], lambda _: None)

    def _add_text_keys(self, writer: gguf.GGUFWriter) -> None:
        writer.add_token_list(["<unk>"] * N_VOCAB)

    def drop_reason(self, name: str) -> str | None:
        return "only for training" if name.startswith("vpm.mim_head.") else None

    def kv_cache_bytes(self, n_ctx: int) -> int:
        return n_ctx


class EchoFamily:
    name = "Echo"
    model_types: tuple[str, ...] = ("echo",)
    published: tuple[str, ...] = ("openecho/Echo-Chat",)
    kinds: tuple[FileKind, ...] = (ECHO_TEXT, ECHO_VISION)
    fold: Callable[..., NDArray[np.float32]] = staticmethod(fold_scale)

    def recognizes(self, config: Config) -> bool:
        return config.get("model_type") in self.model_types

    def recognizes_folder(self, folder: CheckpointFolder) -> bool:  # noqa: ARG002
        return False

    def open(self, folder: CheckpointFolder, companions: Companions) -> EchoModel:
        assert companions.base is None
        tensors = renamed(folder.weights, lambda name: name.removeprefix("model."))
        return EchoModel(folder.config, {folder.path.resolve()}, tensors, self.fold)


def echo_tensors() -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(0)

    def draw(*shape: int) -> NDArray[np.float16]:
        return random.standard_normal(shape).astype(np.float16)

    tensors: dict[str, NDArray[Any]] = {"query": draw(N_QUERY, N_EMBD)}
    tensors["vpm.positions.B.weight"] = draw(N_QUERY + 3, N_EMBD)
    tensors["vpm.mim_head.weight"] = draw(5, N_EMBD)
    tensors["llm.input_embedding.weight"] = draw(N_VOCAB, N_EMBD)
    for i in range(N_LAYER):
        tensors[f"llm.encoder.layers.{i}.project_q.weight"] = draw(N_EMBD, N_EMBD)
        tensors[f"llm.encoder.layers.{i}.norm.weight"] = draw(N_EMBD)
    return tensors


def write_echo_checkpoint(folder: Path, tensors: dict[str, NDArray[Any]] | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "echo"}))
    write_torch_zip(folder / "pytorch_model.bin", tensors or echo_tensors(), "f16")
    return folder
