"""Make tests/goldens/image_pixels.json and image_normalized.npz with transformers' CLIPImageProcessor (PIL backend).

Mode stretch, VisCPM's, is Pillow's own resize in one call, made with 9.5.0, of the year of VisCPM
(12.2 swaps the passes for pictures over a hundred times as tall as wide). Without transformers this makes its hashes
alone: `pip install pillow==9.5.0 numpy && python tests/goldens/make_image_goldens.py stretch`.

The "fast" torchvision backend is not the reference: PALO was trained and is evaluated with the PIL one, and
torchvision's antialiased bicubic does not round as Pillow's does.

Needs a Pillow before 12.3: until then a resize went over the rows first and the columns second, as PALO's training and
evaluation did. Pillow 13.0 swaps the passes for tall pictures that shrink, which moves pixels by up to 15 levels.

    pip install '.[goldens]' 'pillow<12.3' && python tests/goldens/make_image_goldens.py
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import PIL.Image

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parent / "support")]

from pictures import GOLDEN_CASES, GOLDEN_KEPT, MEAN, STD, picture  # noqa: E402  (after the path is set)


def expand_to_square(image: PIL.Image.Image) -> PIL.Image.Image:
    """Pad to a centred square: the behaviour of PALO's expand2square (mbzuai-oryx/PALO, palo/mm_utils.py)."""
    side = max(image.size)
    square = PIL.Image.new(image.mode, (side, side), tuple(int(x * 255) for x in MEAN))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def process(image: PIL.Image.Image, image_size: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """The 8-bit pixels [S, S, 3] and the normalized ones [3, S, S], as transformers makes them."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    image = expand_to_square(image) if mode == "pad" else image
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
        image_mean=MEAN,
        image_std=STD,
    )
    normalized = processor(image, return_tensors="np")["pixel_values"][0]
    pixels = processor(image, return_tensors="np", do_rescale=False, do_normalize=False)["pixel_values"][0]
    return pixels.transpose(1, 2, 0).astype(np.uint8), normalized.astype(np.float32)


def main() -> None:
    version = tuple(int(part) for part in PIL.__version__.split(".")[:2])
    if version >= (12, 3):
        raise SystemExit(f"Pillow: expected a version before 12.3, got {PIL.__version__}; install 'pillow<12.3'")
    hashes = json.loads((FOLDER / "image_pixels.json").read_text())
    for width, height, image_size in GOLDEN_CASES:
        stretched = picture(width, height).resize((image_size, image_size), PIL.Image.Resampling.BICUBIC)
        hashes[f"{width}x{height}-{image_size}-stretch"] = hashlib.sha256(stretched.tobytes()).hexdigest()
    if sys.argv[1:] != ["stretch"]:
        hashes |= clip_hashes()
    (FOLDER / "image_pixels.json").write_text(json.dumps(dict(sorted(hashes.items())), indent=1) + "\n")
    print(f"{len(hashes)} hashes")


def clip_hashes() -> dict[str, str]:
    """Of pad and crop; image_normalized.npz is written, too."""
    hashes, kept = {}, {}
    for width, height, image_size in GOLDEN_CASES:
        for mode in ("pad", "crop"):
            name = f"{width}x{height}-{image_size}-{mode}"
            pixels, normalized = process(picture(width, height), image_size, mode)
            hashes[name] = hashlib.sha256(pixels.tobytes()).hexdigest()
            if (width, height, image_size) in GOLDEN_KEPT:
                kept[name] = normalized
    np.savez_compressed(FOLDER / "image_normalized.npz", **kept)
    return hashes


if __name__ == "__main__":
    main()
