"""Make tests/data/torch_saved.bin with the real torch.save: what hand-written pickles of tests are held against.

pip install '.[goldens]' && python tests/data/make_torch_file.py
"""

from __future__ import annotations

from pathlib import Path

import torch


def main() -> None:
    """Every kind of tensor that published checkpoints hold; all values count up from 0."""
    grid = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    torch.save(
        {
            "f32": grid,
            "f16": grid.half(),
            "bf16": grid.bfloat16(),
            "i64": torch.arange(6)[None],
            "scalar": torch.tensor(4.59375),
            "parameter": torch.nn.Parameter(grid + 0),
            "transposed": grid.T,  # shares the storage of f32
            "view": grid[1:, 1:3],  # with an offset and strides of its own
            "empty": torch.empty(0, 4),
        },
        Path(__file__).parent / "torch_saved.bin",
    )


if __name__ == "__main__":
    main()
