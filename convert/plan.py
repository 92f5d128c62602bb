"""What a conversion will do, tensor by tensor, before anything is written; `--dry-run` prints it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palo_cpp.errors import ArgumentError, ModelFormatError

from .block_types import output_type, tensor_bytes
from .families import Model, OutputFile
from .file_types import UNQUANTIZED
from .listing import listed
from .mixed_types import mixed_types
from .stored_tensor import DTYPE_SIZE, SourceTensor, n_elements
from .tensor_spec import TensorSpec

if TYPE_CHECKING:
    import gguf

_MIB = 1024**2
_N_CTX = 2048  # tokens of context in the estimate of what the result needs to run


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

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files that it is read from."""
        return tuple(path for tensor in (self.source, *self.operands) for path in tensor.paths)

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
        output: what its family says of it.
        file_name: its name.
        tensors: what is written, in this order.
        outtype: type of the file.
    """

    output: OutputFile = field(repr=False)
    file_name: str
    tensors: list[PlannedTensor] = field(repr=False)
    outtype: str

    @property
    def role(self) -> str:
        """What the file is for: `text` or `mmproj`."""
        return self.output.kind.role

    @property
    def n_bytes(self) -> int:
        """Size of the tensors."""
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
        files: what is written, in this order.
        facts: what the family says of the model, for JSON.
        summary: the same in a few words.
        dropped: tensors of the source that are not needed, and why.
        warnings: what the user should know.
        languages: codes of those that the model answers in.
        peak_memory_bytes: of the conversion: the largest tensor in all its forms.
        run_memory_bytes: to run the result: its files and 2048 tokens of KV cache in f16.
    """

    name: str
    source: Path
    files: tuple[PlannedFile, ...]
    facts: dict[str, str | int]
    summary: str
    dropped: list[tuple[str, str]] = field(repr=False)
    warnings: list[str]
    languages: tuple[str, ...]
    peak_memory_bytes: int
    run_memory_bytes: int

    @property
    def n_bytes_needed(self) -> int:
        """Disk space that the conversion needs."""
        return sum(file.n_bytes for file in self.files)

    def file(self, role: str) -> PlannedFile:
        """The file for `text` or `mmproj`."""
        return next(file for file in self.files if file.role == role)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "source": str(self.source),
            **self.facts,
            **{file.role: file.to_dict() for file in self.files},
            "dropped": [{"name": name, "reason": reason} for name, reason in self.dropped],
            "warnings": self.warnings,
            "disk_bytes": self.n_bytes_needed,
            "peak_memory_bytes": self.peak_memory_bytes,
            "run_memory_bytes": self.run_memory_bytes,
        }

    def lines(self) -> list[str]:
        """The plan as text."""
        lines = [f"{self.name}: {self.summary}, from {self.source}"]
        for file in self.files:
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
        lines[-1] += f"; to run with {_N_CTX} tokens of context: {self.run_memory_bytes / _MIB:.0f} MiB."
        return lines + [f"Warning: {warning}" for warning in self.warnings]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _tensor_line(tensor: PlannedTensor) -> str:
    shape = "x".join(str(d) for d in tensor.spec.gguf_shape)
    return f"{tensor.spec.gguf:<44} {shape:>14}  {tensor.source.dtype:>4} -> {tensor.type}"


# Begins a file of that type: its keys are in it, and no tensor yet.
BeginFile = Callable[[OutputFile, str], "gguf.GGUFWriter"]


def make_plan(source: Path, name: str, model: Model, types: dict[str, str], begin: BeginFile) -> Plan:
    """Decide type and size of every tensor.

    Args:
        source: the checkpoint's folder.
        name: of the model.
        model: the opened checkpoint.
        types: role of a file -> type that the user wants.
        begin: makes the keys of a file.

    Raises:
        ArgumentError: a type that such a file cannot have.
        ModelFormatError: lists all tensors that are missing, left over or of a wrong shape.
    """
    for output in model.files:
        _check_type(output, types[output.kind.role])
    _check_tensors(source, model)
    files = tuple(_planned_file(name, output, model, types[output.kind.role].lower(), begin) for output in model.files)
    return Plan(
        name=name,
        source=source,
        files=files,
        facts=model.facts,
        summary=model.summary,
        dropped=_dropped_tensors(model),
        warnings=model.warnings,
        languages=model.languages,
        peak_memory_bytes=peak_memory_bytes([tensor for file in files for tensor in file.tensors]),
        run_memory_bytes=sum(file.n_bytes for file in files) + model.kv_cache_bytes(_N_CTX),
    )


def _check_type(output: OutputFile, outtype: str) -> None:
    if outtype.lower() not in output.kind.types:
        option = {"text": "--outtype", "mmproj": "--mmproj-outtype"}[output.kind.role]
        raise ArgumentError(f"{option}: expected one of {', '.join(output.kind.types)}, got {outtype!r}")


def _planned_file(name: str, output: OutputFile, model: Model, outtype: str, begin: BeginFile) -> PlannedFile:
    is_mixed = output.kind.is_llama and outtype not in UNQUANTIZED
    own = output.kind.own_types(output.specs, outtype)
    mixed = mixed_types(begin(output, "f16"), output.specs, outtype) if is_mixed else own
    tensors = [
        _planned_tensor(spec, model, mixed.get(spec.gguf) or output_type(spec, outtype)) for spec in output.specs
    ]
    return PlannedFile(output, output.kind.name.format(name=name, type=outtype.upper()), tensors, outtype)


def _planned_tensor(spec: TensorSpec, model: Model, type_name: str) -> PlannedTensor:
    source, *operands = (model.tensors[name] for name, _ in spec.sources)
    return PlannedTensor(spec, source, type_name, tuple(operands))


def _check_tensors(folder: Path, model: Model) -> None:
    """Every tensor of the tables must have its source, and every tensor of the source a use or a reason."""
    expected = {name: shape for output in model.files for spec in output.specs for name, shape in spec.sources}
    got = model.tensors
    missing = [name for name in expected if name not in got]
    wrong = [
        f"{name} (expected {list(shape)}, got {list(got[name].shape)})"
        for name, shape in expected.items()
        if name in got and got[name].shape != shape
    ]
    left = [name for name in got if name not in expected and model.drop_reason(name) is None]
    groups = (("missing", missing), ("wrong shape", wrong), ("left over", left))
    problems = [f"{len(names)} {what}: {listed(names)}" for what, names in groups if names]
    if problems:
        raise ModelFormatError(f"{folder}: the tensors do not fit config.json: {'; '.join(problems)}")


def _dropped_tensors(model: Model) -> list[tuple[str, str]]:
    """Tensors of the source that no file takes, with the reason."""
    return [(name, reason) for name in model.tensors if (reason := model.drop_reason(name)) is not None]


def peak_memory_bytes(tensors: list[PlannedTensor]) -> int:
    """The largest tensor in all its forms, plus the interpreter with its libraries and float32 pieces of it."""
    return 400 * _MIB + max(map(_tensor_memory_bytes, tensors))


def _tensor_memory_bytes(tensor: PlannedTensor) -> int:
    """As it is read, twice as it is written (in pieces, then as a whole); what is computed, whole in float32 twice."""
    read = sum(n_elements(each.shape) * DTYPE_SIZE.get(each.dtype, 4) for each in (tensor.source, *tensor.operands))
    computed = 2 * 4 * n_elements(tensor.source.shape) if tensor.spec.transform else 0
    return read + computed + 2 * tensor.n_bytes
