"""The former place of `conversion`, for imports from outside of convert/."""

from .conversion import Conversion

__all__ = ["Conversion"]
