"""A photo of 12 megapixels: how long until it is the square that the vision tower reads.

    python benchmarks/photo.py [--runs 9]

A JPEG file of 4000 x 3000 pixels in memory, taken upright and with the camera turned (EXIF orientation 6); Pillow's own
decoding, without anything else, beside it.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import PIL.Image

from palo_cpp.bench.noise import describe_machine
from palo_cpp.bench.timed_text import seconds
from palo_cpp.vision.embedding_cache import EmbeddingCache
from palo_cpp.vision.image_embedder import ImageEmbedder

_CLIP = SimpleNamespace(n_image_tokens=576, image_size=336, image_mean=(0.48145466, 0.4578275, 0.40821073))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    print(describe_machine())
    encoder = cast(Any, SimpleNamespace(info=_CLIP))  # opening an image asks for its sizes alone
    embedder = ImageEmbedder(encoder, EmbeddingCache(memory_mib=0), b"", mode="pad")
    print("|  | decoded by Pillow, ms | opened, ms |\n|---|---|---|")
    for name, orientation in (("upright", 1), ("turned", 6)):
        data = photo(orientation)
        decode = milliseconds(lambda data=data: PIL.Image.open(io.BytesIO(data)).load(), options.runs)
        opened = milliseconds(lambda data=data: embedder.open(data), options.runs)
        print(f"| {name} | {decode:.0f} | {opened:.0f} |")


def photo(orientation: int) -> bytes:
    """A JPEG file, of soft colours with a sensor's noise."""
    rng = np.random.default_rng(0)
    colours = PIL.Image.fromarray(rng.integers(0, 256, (150, 200, 3), dtype=np.uint8)).resize((4000, 3000))
    noisy = np.asarray(colours) + rng.normal(0, 6, (3000, 4000, 3))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    PIL.Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90, exif=exif)
    return file.getvalue()


def milliseconds(work: Callable[[], object], n_runs: int) -> float:
    """Median of some runs."""
    return 1e3 * median(seconds(work) for _ in range(n_runs))


if __name__ == "__main__":
    main()
