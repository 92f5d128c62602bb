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

    def __init__(self, *cursors: object) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        self._cursors = list(cursors)

    def perf_counter(self) -> float:
        return self.now

    def images_to_prefill(self, _segments: object) -> list[SimpleNamespace]:
        return [IMAGE]

    def embed(self, _image: object) -> SimpleNamespace:
        self.now += ENCODE_S
        self.calls.append("embed")
        return SimpleNamespace(rows=np.zeros((1, 4), np.float32), is_cached=False)

    def prefill(self, _segments: object, embeddings: dict[str, np.ndarray]) -> object:
        assert list(embeddings) == ["a"]
        self.now += PREFILL_S
        self.calls.append("prefill")
        return self._cursors.pop(0)


@pytest.mark.parametrize("cursors", [("cursor",), (None, "cursor")], ids=["at once", "displaced meanwhile"])
def test_encoding_is_not_counted_as_prefill(monkeypatch, cursors):
    fake = Fake(*cursors)
    monkeypatch.setattr(prompt_run, "time", fake)
    run = PromptRun(fake, fake)
    assert run.prefill([]) == "cursor"
    assert fake.calls == ["embed"] + ["prefill"] * len(cursors)
    assert (run.images.n_encoded, run.images.elapsed_s) == (1, ENCODE_S)
    assert run.prefill_s == PREFILL_S * len(cursors)
