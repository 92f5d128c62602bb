"""The former place of `families.palo.tensor_rows`, for imports from outside of convert/."""

from .families.palo.tensor_rows import projector_specs, text_specs, vision_specs
from .tensor_spec import TensorSpec

__all__ = ["TensorSpec", "projector_specs", "text_specs", "vision_specs"]
