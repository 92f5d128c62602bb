"""Many images through one conversation: does each answer follow its own, and does memory stay flat?

Run in a process of its own, so that its memory is its own:
`python tests/support/soak.py MODEL N_IMAGES` prints a JSON object.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palo_cpp import Palo

N_WARM_UP = 20  # by then buffers and caches have their size


def picture(n: int) -> NDArray[np.uint8]:
    """The n-th image [56, 48, 3] uint8, noise unlike any other's."""
    return np.random.default_rng(n).integers(0, 256, (56, 48, 3), np.uint8)


def resident_mib() -> float:
    """Memory that this process holds."""
    n_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return n_pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Watch:
    """Remembers the image rows that the language model was fed last."""

    def __init__(self, palo: Palo) -> None:
        self.rows: list[NDArray[np.float32]] = []
        self._decode = palo.language_model.decode
        palo.language_model.decode = self._watch  # type: ignore[method-assign]

    def _watch(self, inputs: Any, **options: Any) -> NDArray[np.float32]:
        if isinstance(inputs, np.ndarray) and inputs.ndim == 2:
            self.rows.append(inputs.copy())
        return self._decode(inputs, **options)

    def take(self) -> NDArray[np.float32]:
        """All rows since the last call."""
        rows, self.rows = self.rows, []
        return np.concatenate(rows)


def soak(model: Path, n_images: int) -> dict[str, Any]:
    """Show images one after the other, every third one beside an earlier one; two questions about each."""
    n_wrong = n_repeated = 0
    answers = []
    with Palo(model, n_threads=1, embedding_cache_mib=0.5) as palo, palo.chat() as chat:
        watch = Watch(palo)
        for n in range(N_WARM_UP + n_images):
            if n == N_WARM_UP:
                before_mib = resident_mib()
            shown = [n - 2, n] if n % 3 == 2 else [n]
            chat.set_image(picture(shown[0]))
            for more in shown[1:]:
                chat.add_image(picture(more))
            if n % 2:
                chat.prepare()
            first = chat.ask("What is this?", max_tokens=3)
            n_wrong += not np.array_equal(watch.take(), np.concatenate([palo.embed_image(picture(i)) for i in shown]))
            second = chat.ask("And why?", max_tokens=2)
            n_repeated += len(watch.rows) + second.timings.n_images_encoded
            answers.append(first.token_ids)
        after_mib = resident_mib()
        watch.rows.clear()
        n_unlike = sum(
            palo.ask(picture(n), "What is this?", max_tokens=3).token_ids != answers[n]
            for n in range(0, len(answers), 30)  # those were shown alone
        )
    return {
        "n_images": n_images,
        "n_wrong_rows": n_wrong,
        "n_repeated": n_repeated,
        "n_unlike_cold": n_unlike,
        "n_different_answers": len(set(answers)),
        "growth_mib": round(after_mib - before_mib, 2),
    }


if __name__ == "__main__":
    print(json.dumps(soak(Path(sys.argv[1]), int(sys.argv[2]))))
