"""The former place of `families.palo.tensor_rows`, for imports from outside of convert/."""

from .families.palo.tensor_rows import TensorSpec, projector_specs, text_specs, vision_specs

__all__ = ["TensorSpec", "projector_specs", "text_specs", "vision_specs"]
