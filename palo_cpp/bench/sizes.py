"""The models whose true sizes are known: what random weights need to take the time that real ones would."""

from __future__ import annotations

from palo_cpp.bench.palo_sizes import PALO_MODELS
from palo_cpp.bench.random_file import ModelSizes
from palo_cpp.bench.viscpm_sizes import VISCPM_MODELS
from palo_cpp.errors import ArgumentError
from palo_cpp.families.viscpm.published import PUBLISHED as VISCPM

# Further checkpoints of a model have its shapes.
MODELS: dict[str, ModelSizes] = {
    **PALO_MODELS,
    **VISCPM_MODELS,
    **{name: VISCPM_MODELS["viscpm"] for name, model in VISCPM.items() if model.variant},
}


def model_sizes(name: str) -> ModelSizes:
    """Look up a published model.

    Raises:
        ArgumentError: not one of them.
    """
    if name not in MODELS:
        raise ArgumentError(
            f"--synthetic: expected a model of known sizes ({', '.join(MODELS)}), got {name!r}; "
            "leave --synthetic out to measure files of your own"
        )
    return MODELS[name]
