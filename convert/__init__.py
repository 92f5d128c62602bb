"""Checkpoints of PALO, LLaVA-1.5 and MobileVLM, also as transformers writes them -> GGUF files; quantize, describe.

Needs no torch and runs nothing that a checkpoint says. Importing this package is cheap: what does the work is imported
by the functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from palo_cpp.models.show import Summary

    from .conversion import Conversion

__all__ = ["Progress", "convert", "outtypes", "quantize", "summarize"]


def convert(
    source: Path | str,
    output: Path | str,
    *,
    vision_tower: Path | str | None = None,
    base: Path | str | None = None,
    outtype: str = "f16",
    mmproj_outtype: str = "f16",
    name: str | None = None,
    dry_run: bool = False,
    progress: ProgressCallback | None = None,
) -> Conversion:
    """Convert a checkpoint to the two GGUF files that palo_cpp and llama.cpp run.

    One tensor is in memory at a time. The source is never changed, and the files appear whole or not at all.

    Args:
        source: folder of the checkpoint.
        output: folder for `NAME-OUTTYPE.gguf` and `mmproj-NAME-TYPE.gguf`; made if missing, not inside the source.
        vision_tower: folder of the CLIP tower, where it is not inside the checkpoint.
        base: folder of the base LLaMA, for a LoRA adapter or a lone `mm_projector.bin`.
        outtype: type of the decoder's weights; `outtypes()` lists them.
        mmproj_outtype: type of tower and projector: f32, f16, bf16 or q8_0.
        name: of the model; by default its repository's or its folder's.
        dry_run: only make the plan; nothing is written.
        progress: is called after each tensor.

    Returns:
        The plan (printable) and the paths of the two files.

    Raises:
        ArgumentError: an unknown type, or an output inside the source.
        ModelNotFoundError: a file or folder is missing; the message says which and how to pass it.
        ModelFormatError: the checkpoint is damaged, hostile, incomplete or of an unknown kind.

    Example:
        >>> convert("PALO-7B", "models", outtype="q4_k_m", vision_tower="clip-vit-large-patch14-336")
    """
    from .conversion import convert_checkpoint
    from .families import Companions

    return convert_checkpoint(
        Path(source),
        Path(output),
        Companions(*(None if folder is None else Path(folder) for folder in (vision_tower, base))),
        {"text": outtype, "mmproj": mmproj_outtype},
        name=name,
        dry_run=dry_run,
        progress=progress,
    )


def quantize(
    source: Path | str,
    output: Path | str,
    outtype: str,
    *,
    n_threads: int = 0,
    progress: ProgressCallback | None = None,
) -> Path:
    """Write a GGUF file again with its weights in another type.

    Args:
        source: an unquantized GGUF file, of either kind.
        output: the new file, or a folder for it; never the source itself.
        outtype: for the decoder one of `outtypes()`; for an mmproj file f32, f16, bf16 or q8_0.
        n_threads: 0 for the physical cores this process may use.
        progress: is called after each tensor.

    Returns:
        Path of the new file.

    Raises:
        ArgumentError: an unknown type, or `output` is `source`.
        ModelNotFoundError: there is no such file.
        ModelFormatError: the file is damaged, or quantized already.

    Example:
        >>> quantize("PALO-7B-F16.gguf", "PALO-7B-Q4_K_M.gguf", "q4_k_m")
    """
    from .quantization import quantize_file

    return quantize_file(Path(source), Path(output), outtype, n_threads, progress)


def summarize(path: Path | str) -> Summary:
    """Describe a GGUF file of either kind; reads its header only.

    Args:
        path: the file.

    Returns:
        The summary: printable, and a dictionary with `to_dict()`.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelFormatError: it is no GGUF file, or damaged.

    Example:
        >>> print(summarize("mmproj-PALO-7B-F16.gguf"))
    """
    from palo_cpp.models.show import summarize_file

    return summarize_file(Path(path))


def outtypes() -> tuple[str, ...]:
    """Types that `convert` and `quantize` write for the decoder, finest first."""
    from .file_types import LLAMA_TYPES

    return LLAMA_TYPES
