"""Pixels for the vision tower, as process_images (mbzuai-oryx/PALO, palo/mm_utils.py) and CLIPImageProcessor do it."""

from __future__ import annotations

import numpy as np
import PIL.Image
import torch

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def preprocess(image: PIL.Image.Image, image_size: int, mode: str = "pad") -> torch.Tensor:
    """RGB image -> float32 [3, image_size, image_size]."""
    if mode == "pad":
        side = max(image.size)
        square = PIL.Image.new("RGB", (side, side), tuple(int(255 * mean) for mean in MEAN))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    shorter = min(image.size)
    width, height = (int(image_size * n / shorter) for n in image.size)
    for size in ((width, image.height), (width, height)):  # rows first, whatever order this Pillow prefers
        image = image.resize(size, PIL.Image.Resampling.BICUBIC)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    image = image.crop((left, top, left + image_size, top + image_size))
    values = (np.asarray(image) * np.float64(1 / 255)).astype(np.float32)
    values = (values - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
