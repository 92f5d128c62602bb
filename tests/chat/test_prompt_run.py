"""palo_cpp.chat.prompt_run: images first, then the prompt, and what each of them took."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from palo_cpp.chat import prompt_run
from palo_cpp.chat.prompt_run import PromptRun

IMAGE = SimpleNamespace(content_hash="a")
ENCODE_S, PREFILL_S = 5.0, 2.0


class Fake:
    """Cache and embedder in one, with a clock that only they move."""

    def __init__(self, *placed: bool) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        self._placed = list(placed)

    def perf_counter(self) -> float:
        return self.now

    def images_to_prefill(self, _segments: object) -> list[SimpleNamespace]:
        return [IMAGE]

    def embed(self, _image: object) -> SimpleNamespace:
        self.now += ENCODE_S
        self.calls.append("embed")
        return SimpleNamespace(rows=np.zeros((1, 4), np.float32), is_cached=False)

    def place(self, _cursor: object, embeddings: dict[str, np.ndarray]) -> bool:
        assert list(embeddings) == ["a"]
        self.now += PREFILL_S
        self.calls.append("place")
        return self._placed.pop(0)


@pytest.mark.parametrize("placed", [(True,), (False, True)], ids=["at once", "displaced meanwhile"])
def test_encoding_is_not_counted_as_prefill(monkeypatch, placed):
    fake = Fake(*placed)
    monkeypatch.setattr(prompt_run, "time", fake)
    run = PromptRun(fake, fake)
    assert run.prefill([]).cells == []
    assert fake.calls == ["embed"] + ["place"] * len(placed)
    assert (run.images.n_encoded, run.images.elapsed_s) == (1, ENCODE_S)
    assert run.prefill_s == PREFILL_S * len(placed)
