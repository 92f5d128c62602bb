"""What a conversion will do, tensor by tensor, before anything is written; `--dry-run` prints it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelFormatError

from .families.palo.sources import Source
from .families.palo.tensor_rows import drop_reason, projector_specs, text_specs, vision_specs
from .stored_tensor import SourceTensor, n_elements
from .tensor_spec import TensorSpec

# type -> (values in a block, bytes of a block); ggml/src/ggml-common.h
BLOCKS = {"F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q8_0": (32, 34)}
_MIB = 1024**2


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of an output file: where it comes from and what it becomes."""

    spec: TensorSpec
    source: SourceTensor
    type: str
    operands: tuple[SourceTensor, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Size in the output file."""
        return tensor_bytes(self.spec.gguf_shape, self.type)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.spec.gguf,
            "source": self.source.name,
            "shape": list(self.spec.gguf_shape),
            "source_type": self.source.dtype,
            "type": self.type,
            "n_bytes": self.n_bytes,
        }


@dataclass(frozen=True)
class PlannedFile:
    """One output file.

    Attributes:
        file_name: its name.
        tensors: what is written, in this order.
        outtype: type of the file as the user named it.
        n_bytes: size of the finished file's tensors; an estimate where llama.cpp's quantizer chooses the types.
    """

    file_name: str
    tensors: list[PlannedTensor] = field(repr=False)
    outtype: str
    n_bytes: int

    @property
    def n_bytes_written(self) -> int:
        """Bytes of the tensors before llama.cpp quantizes them."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        types = Counter(tensor.type for tensor in self.tensors)
        return {
            "file_name": self.file_name,
            "outtype": self.outtype,
            "n_bytes": self.n_bytes,
            "types": dict(types),
            "tensors": [tensor.to_dict() for tensor in self.tensors],
        }


@dataclass(frozen=True)
class Plan:
    """A whole conversion.

    Attributes:
        name: of the model.
        source: folder that is read.
        text: file of the decoder.
        mmproj: file of tower and projector.
        n_image_tokens: image embeddings for one image.
        dropped: tensors of the source that are not needed, and why.
        warnings: what the user should know.
        peak_memory_bytes: of the conversion: the largest tensor in all its forms.
        run_memory_bytes: to run the result: both files and 2048 tokens of KV cache in f16.
    """

    name: str
    source: Path
    text: PlannedFile
    mmproj: PlannedFile
    projector: str
    n_image_tokens: int
    dropped: list[tuple[str, str]] = field(repr=False)
    warnings: list[str]
    peak_memory_bytes: int
    run_memory_bytes: int

    @property
    def n_bytes_needed(self) -> int:
        """Disk space that the conversion needs at its peak."""
        is_quantized = self.text.outtype not in ("f32", "f16", "bf16")
        return self.text.n_bytes_written + self.mmproj.n_bytes + (self.text.n_bytes if is_quantized else 0)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "source": str(self.source),
            "projector": self.projector,
            "n_image_tokens": self.n_image_tokens,
            "text": self.text.to_dict(),
            "mmproj": self.mmproj.to_dict(),
            "dropped": [{"name": name, "reason": reason} for name, reason in self.dropped],
            "warnings": self.warnings,
            "disk_bytes": self.n_bytes_needed,
            "peak_memory_bytes": self.peak_memory_bytes,
            "run_memory_bytes": self.run_memory_bytes,
        }

    def lines(self) -> list[str]:
        """The plan as text."""
        lines = [f"{self.name}: projector {self.projector}, {self.n_image_tokens} image tokens, from {self.source}"]
        for file in (self.text, self.mmproj):
            lines += ["", f"{file.file_name}: {len(file.tensors)} tensors, {file.n_bytes / _MIB:.1f} MiB"]
            lines += [f"  {_tensor_line(tensor)}" for tensor in file.tensors]
        if self.dropped:
            lines += ["", f"Not needed: {len(self.dropped)} tensors"]
            reasons = Counter(reason for _, reason in self.dropped)
            lines += [f"  {n:5d}  {reason}" for reason, n in reasons.items()]
        lines += [
            "",
            f"Disk: {self.n_bytes_needed / _MIB:.1f} MiB. Memory to convert: {self.peak_memory_bytes / _MIB:.0f} MiB",
        ]
        lines[-1] += f"; to run with 2048 tokens of context: {self.run_memory_bytes / _MIB:.0f} MiB."
        return lines + [f"Warning: {warning}" for warning in self.warnings]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _tensor_line(tensor: PlannedTensor) -> str:
    shape = "x".join(str(d) for d in tensor.spec.gguf_shape)
    return f"{tensor.spec.gguf:<44} {shape:>14}  {tensor.source.dtype:>4} -> {tensor.type}"


def tensor_bytes(shape: tuple[int, ...], type_name: str) -> int:
    """Size of a tensor's data."""
    n_values, n_bytes = BLOCKS[type_name]
    return n_elements(shape) // n_values * n_bytes


def assign_tensors(
    source: Source,
) -> tuple[list[tuple[TensorSpec, SourceTensor]], list[tuple[TensorSpec, SourceTensor]]]:
    """Give every tensor of the table its source, and every tensor of the source a use or a reason.

    Returns:
        The decoder's tensors, and those of tower and projector.

    Raises:
        ModelFormatError: lists all tensors that are missing, left over or of a wrong shape.
    """
    text = text_specs(source.text)
    vision = vision_specs(source.vision) + projector_specs(source.projector)
    problems = _problems([*text, *vision], source)
    if problems:
        raise ModelFormatError(f"{source.folder}: the tensors do not fit config.json: {'; '.join(problems)}")
    tensors = source.tensors
    return [(s, tensors[s.source]) for s in text], [(s, tensors[s.source]) for s in vision]


def _problems(specs: list[TensorSpec], source: Source) -> list[str]:
    missing = [spec.source for spec in specs if spec.source not in source.tensors]
    wrong = [
        f"{spec.source} (expected {list(spec.shape)}, got {list(source.tensors[spec.source].shape)})"
        for spec in specs
        if spec.source in source.tensors and source.tensors[spec.source].shape != spec.shape
    ]
    used = {spec.source for spec in specs}
    left = [name for name in source.tensors if name not in used and _reason(name, source) is None]
    groups = (("missing", missing), ("wrong shape", wrong), ("left over", left))
    return [f"{len(names)} {what}: {', '.join(names)}" for what, names in groups if names]


def dropped_tensors(source: Source) -> list[tuple[str, str]]:
    """Tensors of the source that no file takes, with the reason."""
    return [(name, reason) for name in source.tensors if (reason := _reason(name, source)) is not None]


def _reason(name: str, source: Source) -> str | None:
    if name == "lm_head.weight" and source.text.tied_embeddings:
        return "the same weights as model.embed_tokens (tie_word_embeddings)"
    return drop_reason(name, source.vision)


def output_type(spec: TensorSpec, outtype: str) -> str:
    """Type of one tensor in a file of type `outtype` (f32, f16, bf16 or q8_0)."""
    if spec.precision == "f32" or len(spec.gguf_shape) == 1:
        return "F32"
    if spec.precision == "conv_f16" or (spec.precision == "conv" and outtype != "f32"):
        return "F16"
    chosen = outtype.upper()
    return "F16" if spec.gguf_shape[-1] % BLOCKS[chosen][0] else chosen


def lossless_type(tensors: list[SourceTensor]) -> str:
    """The smallest of f16, bf16 and f32 that holds all these tensors unchanged."""
    dtypes = {tensor.dtype for tensor in tensors}
    return {frozenset({"F16"}): "f16", frozenset({"BF16"}): "bf16"}.get(frozenset(dtypes), "f32")


def peak_memory_bytes(tensors: list[PlannedTensor]) -> int:
    """The largest tensor as it is read, in float32 and as it is written, plus the interpreter with its libraries."""
    return 150 * _MIB + max(n_elements(t.source.shape) * (4 + 4 + 4) for t in tensors)


def kv_cache_bytes(source: Source, n_ctx: int = 2048) -> int:
    """Keys and values in f16."""
    text = source.text
    return n_ctx * text.n_layer * text.n_head_kv * text.head_dim * 2 * 2
