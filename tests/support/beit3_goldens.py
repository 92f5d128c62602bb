"""The committed goldens of VisCPM's eye: their cases, and how tests read them (see goldens/README.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from beit3_files import Beit3Model
from golden_files import FOLDER, checksum
from numpy.typing import NDArray

BEIT3_CASES = {
    "heads_of_64": Beit3Model(),
    "odd_grid": Beit3Model(grid=3, patch_size=8, n_embd=96, n_head=3, n_ff=160, n_layer=2, n_query=5, n_out=64, seed=1),
    "many_queries": Beit3Model(grid=2, n_embd=64, n_head=4, n_ff=128, n_layer=4, n_query=11, n_out=96, seed=2),
}


@dataclass(frozen=True)
class Beit3Golden:
    """What PyTorch computed from `model.pixels()`; all float32."""

    model: Beit3Model
    patch_embeddings: NDArray[np.float32]  # [n_patches, n_embd]
    residual_streams: NDArray[np.float32]  # [1 + n_layer, n_tokens, n_embd]
    hidden_states: NDArray[np.float32]  # [n_query, n_embd]
    image_embeddings: NDArray[np.float32]  # [n_query, n_out]


def state_checksum(model: Beit3Model) -> str:
    """Of all the weights: a golden is good only for these."""
    state = model.state()
    return checksum(*(state[name] for name in sorted(state)))


def read_beit3_golden(name: str) -> Beit3Golden:
    """Read one of `BEIT3_CASES`; an assertion says when numpy no longer draws the numbers it was made with."""
    model = Beit3Model(**{key: value for key, value in vars(BEIT3_CASES[name]).items() if key != "tensors"})
    with np.load(FOLDER / f"beit3_{name}.npz") as arrays:
        assert str(arrays["state_checksum"]) == state_checksum(model), "numpy draws other weights now"
        assert str(arrays["pixels_checksum"]) == checksum(*model.pixels()), "numpy draws other pixels now"
        names = ("patch_embeddings", "residual_streams", "hidden_states", "image_embeddings")
        return Beit3Golden(model, **{stage: arrays[stage] for stage in names})
