"""The committed goldens: their cases, and how tests read them (see goldens/README.md)."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import SMALL, Size, write_checkpoint
from numpy.typing import NDArray
from random_model import draw, plan_lora, plan_model, plan_vision_model

FOLDER = Path(__file__).parents[1] / "goldens"

# (projector, side of the grid of patches). Odd grids: 5 x 5 -> 3 x 3 and 9 x 9 -> 5 x 5 under LDP's stride of 2.
VISION_CASES = [
    ("linear", 4),
    ("linear", 5),
    ("identity", 5),
    ("mlp2x_gelu", 4),
    ("mlp2x_gelu", 9),
    ("mlp3x_gelu", 5),
    ("ldpnet", 4),
    ("ldpnet", 5),
    ("ldpnet", 9),
    ("ldpnetv2", 4),
    ("ldpnetv2", 5),
    ("ldpnetv2", 6),
]


def size_of_grid(grid: int) -> Size:
    """The small model with `grid` x `grid` patches."""
    return replace(SMALL, image_size=grid * SMALL.patch_size)


def golden_pixels(size: Size, seed: int = 0) -> NDArray[np.float32]:
    """What the vision goldens were fed: normal values, float32 [3, image_size, image_size]."""
    generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(b"pixels")]))
    return generator.standard_normal((3, size.image_size, size.image_size)).astype(np.float32)


def checksum(*arrays: NDArray[Any]) -> str:
    """SHA-256 of the bytes of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def weights_checksum(size: Size, projector: str, *, seed: int = 0, lora: bool = False) -> str:
    """Of all the weights that a small checkpoint computes with: a golden is good only for these."""
    size = size.for_projector(projector)
    tensors = draw(plan_model(size, projector), seed) | draw(plan_vision_model(size), seed)
    if lora:
        tensors |= draw(plan_lora(size, 8), seed)
    return checksum(*(tensors[name] for name in sorted(tensors)))


@dataclass(frozen=True)
class VisionGolden:
    """What PyTorch computed for one projector and grid, from `golden_pixels`; all float32."""

    projector: str
    size: Size
    patch_embeddings: NDArray[np.float32]  # [n_patches, n_embd of the tower]
    hidden_states: NDArray[np.float32]  # [n_patches, n_embd of the tower], at select layer -2
    image_embeddings: NDArray[np.float32]  # [n_image_tokens, n_embd]

    @property
    def pixels(self) -> NDArray[np.float32]:
        return golden_pixels(self.size)


def read_vision_golden(projector: str, grid: int) -> VisionGolden:
    """Read one of `VISION_CASES`; an assertion tells when numpy no longer draws the numbers it was made with."""
    size = size_of_grid(grid).for_projector(projector)
    with np.load(FOLDER / f"vision_{projector}_{grid}x{grid}.npz") as arrays:
        assert str(arrays["weights_checksum"]) == weights_checksum(size, projector), "numpy draws other weights now"
        assert str(arrays["pixels_checksum"]) == checksum(golden_pixels(size)), "numpy draws other pixels now"
        stages = {name: arrays[name] for name in ("patch_embeddings", "hidden_states", "image_embeddings")}
    return VisionGolden(projector, size, **stages)


@dataclass(frozen=True)
class GoldenModel:
    """A small checkpoint, by what `write_checkpoint` is told."""

    projector: str = "ldpnet"
    layout: str = "palo"
    grid: int = 4
    lora: bool = False
    legacy: bool = False
    image_aspect_ratio: str = "pad"
    seed: int = 0

    def write(self, folder: Path, **options: Any) -> Path:
        """Write the checkpoint; `options` (weights, dtype, ...) change how, never what."""
        arguments = asdict(self) | options
        del arguments["grid"]
        return write_checkpoint(folder, size=size_of_grid(self.grid), **arguments)

    def weights_checksum(self) -> str:
        return weights_checksum(size_of_grid(self.grid), self.projector, seed=self.seed, lora=self.lora)


@dataclass(frozen=True)
class GoldenTurn:
    """One question and PyTorch's greedy answer.

    Attributes:
        question: The user's text.
        prompt_ids: Token ids that this turn adds before its answer: in a first turn with an image two lists (before and
            after the image), else one (a later turn's begins with the `</s>` of the answer before).
        token_ids: The greedy answer without `</s>`, and without a character that was not finished at the end.
        margins: Lead of the best logit over the second for each decoded token, the `</s>` and what was not finished
            included; among tokens after which the bytes can still become UTF-8.
        finish_reason: "stop" or "length".
    """

    question: str
    prompt_ids: list[list[int]]
    token_ids: list[int]
    margins: list[float]
    finish_reason: str


@dataclass(frozen=True)
class GoldenAnswer:
    """A conversation about `pictures.picture(*image)`, or about no image."""

    model: GoldenModel
    language: str
    image: tuple[int, int] | None
    max_tokens: int
    turns: list[GoldenTurn]

    @property
    def name(self) -> str:
        options = [self.model.projector, self.model.layout, f"{self.model.grid}x{self.model.grid}", self.language]
        options += ["lora"] * self.model.lora + ["legacy"] * self.model.legacy + ["text"] * (self.image is None)
        options += [self.model.image_aspect_ratio] * (self.model.image_aspect_ratio != "pad")
        return "-".join([*options, f"{len(self.turns)}t"])


def read_answers() -> list[GoldenAnswer]:
    """All golden conversations."""
    content = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))
    return [
        GoldenAnswer(
            model=GoldenModel(**case["model"]),
            language=case["language"],
            image=tuple(case["image"]) if case["image"] else None,
            max_tokens=case["max_tokens"],
            turns=[GoldenTurn(**turn) for turn in case["turns"]],
        )
        for case in content["answers"]
    ]


def read_answer_checksums() -> dict[str, str]:
    """`GoldenAnswer.name` -> checksum of the weights it was made with."""
    content = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))
    checksums: dict[str, str] = content["weights_checksums"]
    return checksums
