"""Make tests/goldens/beit3_*.npz with the PyTorch reference of tests/reference/beit3_stages.py.

pip install '.[goldens]' && python tests/goldens/make_beit3_goldens.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parent / "support")]

from beit3_files import Beit3Model  # noqa: E402
from beit3_goldens import BEIT3_CASES, state_checksum  # noqa: E402  (after the path is set)
from golden_files import checksum  # noqa: E402
from reference import beit3_stages as beit3  # noqa: E402


def main() -> None:
    torch.set_num_threads(1)  # the same sums on every machine
    for name, model in BEIT3_CASES.items():
        np.savez_compressed(FOLDER / f"beit3_{name}.npz", **stages(model))


def stages(model: Beit3Model) -> dict[str, np.ndarray]:
    (pixels,) = model.pixels()
    config = {"n_layer": model.n_layer, "n_head": model.n_head}
    state = {name: torch.from_numpy(values) for name, values in model.state().items()}
    image = torch.from_numpy(pixels)
    with torch.inference_mode():
        hidden = beit3.hidden_states(state, config, image)
        return {
            "patch_embeddings": beit3.patch_embeddings(state, image).numpy(),
            "residual_streams": torch.stack(list(beit3.residual_streams(state, config, image))).numpy(),
            "hidden_states": hidden.numpy(),
            "image_embeddings": beit3.mapping(state, hidden).numpy(),
            "state_checksum": np.array(state_checksum(model)),
            "pixels_checksum": np.array(checksum(pixels)),
        }


if __name__ == "__main__":
    main()
