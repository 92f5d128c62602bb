"""The models that a benchmark is asked for: files, or random weights of a published model's shapes."""

from __future__ import annotations

from pathlib import Path

from palo_cpp.bench.sizes import model_sizes
from palo_cpp.bench.synthetic import synthetic_mmproj, synthetic_text
from palo_cpp.models.files import find_model


def text_model(name: str, *, is_synthetic: bool) -> Path:
    """The text GGUF of a folder or file; with `is_synthetic`, of a published model's name, Q4_0."""
    return synthetic_text(model_sizes(name), "q4_0", report=print) if is_synthetic else find_model(name).text.path


def whole_model(name: str, *, is_synthetic: bool) -> Path:
    """The same with its mmproj file beside it."""
    if is_synthetic:
        synthetic_mmproj(model_sizes(name), "f16", report=print)
    return text_model(name, is_synthetic=is_synthetic)
