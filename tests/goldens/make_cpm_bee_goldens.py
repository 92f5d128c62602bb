"""Compute the goldens of CPM-Bee: bias rows, hidden states, logits of small random models, by tests/reference.

pip install '.[goldens]' && python tests/goldens/make_cpm_bee_goldens.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "support")]

from bee_files import draw_state  # noqa: E402  (after the path is set)
from bee_prompts import FOLDER, N_IMAGE, SIZES, Case, cases, image_of, relations, state_checksum  # noqa: E402
from reference import cpm_bee  # noqa: E402


def main() -> None:
    """Write a file for each size."""
    torch.set_num_threads(1)  # the same sums on every machine
    for name, size in SIZES.items():
        state = {key: torch.from_numpy(values) for key, values in draw_state(size).items()}
        image = torch.from_numpy(image_of(size))
        arrays: dict[str, Any] = {}
        with torch.inference_mode():
            for case_name, case in cases(size).items():
                arrays |= {f"{case_name}_{key}": value for key, value in stages(state, case, image).items()}
            arrays["words"] = cpm_bee.embed(state, [1] * 6, [0, 1, 2, 5, 100, 4094])
        np.savez_compressed(
            FOLDER / f"cpm_bee_{name}.npz",
            weights_checksum=state_checksum(name),
            **{key: np.asarray(value) for key, value in arrays.items()},
        )


def stages(state: cpm_bee.State, case: Case, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a prompt and its answer, all at once, become; logits from the prompt's last token on."""
    ids, subs, segments, positions = case.rows.T.tolist()
    cells = cpm_bee.Cells(ids, subs, positions, segments, [int(c) for c in case.contexts])
    embeddings = cpm_bee.embed(state, ids, subs)
    if case.image_at is not None:
        embeddings[case.image_at : case.image_at + N_IMAGE] = image
    codes = torch.from_numpy(relations()).long()
    hidden = cpm_bee.forward(state, embeddings, cells, codes)
    return {
        "bias_rows": torch.where(cpm_bee.visible(cells), cpm_bee.bias_rows(cells, codes), -1).to(torch.int16),
        "hidden": hidden,
        "logits": cpm_bee.logits(state, hidden[case.n_prompt - 1 :], case.extra),
    }


if __name__ == "__main__":
    main()
