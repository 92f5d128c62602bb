"""The former place of `families.palo.sizes`, for imports from outside of convert/."""

from .families.palo.sizes import CLIP_MEAN, CLIP_STD, Projector, TextSizes, VisionSizes

__all__ = ["CLIP_MEAN", "CLIP_STD", "Projector", "TextSizes", "VisionSizes"]
