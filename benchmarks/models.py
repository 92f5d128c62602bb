"""The models that a benchmark is asked for: files, or random weights of a published model's shapes."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from palo_cpp.bench.contestant import Setup
from palo_cpp.bench.palo_side import PaloCpp
from palo_cpp.bench.sizes import model_sizes
from palo_cpp.bench.synthetic import synthetic_mmproj, synthetic_text
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.models.files import find_model


def text_model(name: str, *, is_synthetic: bool) -> Path:
    """The text GGUF of a folder or file; with `is_synthetic`, of a published model's name, Q4_0."""
    return synthetic_text(model_sizes(name), "q4_0", report=print) if is_synthetic else find_model(name).text.path


def whole_model(name: str, *, is_synthetic: bool) -> Path:
    """The same with its mmproj file beside it."""
    if is_synthetic:
        synthetic_mmproj(model_sizes(name), "f16", report=print)
    return text_model(name, is_synthetic=is_synthetic)


def loaded_side(name: str, n_threads: int, *, is_synthetic: bool) -> PaloCpp:
    """Our side of `bench`, with such a model and a random image; our kernels whatever the start-up check finds."""
    text = whole_model(name, is_synthetic=is_synthetic)
    mmproj = synthetic_mmproj(model_sizes(name), "f16") if is_synthetic else find_model(name).mmproj.path
    side = PaloCpp(Setup(text, mmproj, n_threads, n_ctx=1024, backend="palo"))
    side.prepare()
    side.load()
    size = int(read_header(mmproj).metadata["clip.vision.image_size"])
    side.set_image(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8))
    return side


def model_parser(description: str | None, *, n_threads: int) -> argparse.ArgumentParser:
    """Arguments of a benchmark of one model: its name, `--synthetic` and `--threads`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or GGUF file; with --synthetic, a published model's name")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--threads", type=int, default=n_threads)
    return parser
