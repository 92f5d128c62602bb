"""Numbers for Prometheus, in its text format."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palo_cpp.chat.answer import Answer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

_COUNTERS = {
    "palo_answers_total": "Answers that ended, by how.",
    "palo_requests_total": "Requests, by path and status.",
    "palo_prompt_tokens_total": "Tokens and image embeddings of all prompts.",
    "palo_prompt_tokens_cached_total": "Those of them that the context held already.",
    "palo_prompt_tokens_prefilled_total": "Those of them that were prefilled.",
    "palo_generated_tokens_total": "Tokens decoded for answers.",
    "palo_images_total": "Images shown with questions.",
    "palo_answers_retried_total": "Answers begun again because they were in another language.",
    "palo_decode_seconds_total": "Time from first tokens to ends of answers, each counted by itself.",
}


class Metrics:
    """Counts from all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[str, float]] = {name: {} for name in _COUNTERS}
        self._buckets = [0] * len(_BUCKETS_S)
        self._n_first, self._sum_first_s = 0, 0.0
        self._asked: dict[str, tuple[str, Callable[[], float]]] = {}

    def ask(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A number that is asked for when it is wanted; one that never falls has a name that ends in `_total`."""
        self._asked[name] = (what, read)

    def request(self, path: str, status: int) -> None:
        """A request was answered or refused."""
        with self._lock:
            self._add("palo_requests_total", 1, f'path="{path}",status="{status}"')

    def first_token(self, elapsed_s: float) -> None:
        """The first text of an answer was there so long after its request."""
        with self._lock:
            self._n_first += 1
            self._sum_first_s += elapsed_s
            for i, bound in enumerate(_BUCKETS_S):
                self._buckets[i] += elapsed_s <= bound

    def answered(self, answer: Answer) -> None:
        """An answer has ended."""
        timings = answer.timings
        amounts: dict[str, float] = {
            "palo_prompt_tokens_total": timings.n_prompt_tokens,
            "palo_prompt_tokens_cached_total": timings.n_cached_tokens,
            "palo_prompt_tokens_prefilled_total": timings.n_prompt_tokens - timings.n_cached_tokens,
            "palo_generated_tokens_total": timings.n_generated,
            "palo_images_total": answer.n_images,
            "palo_answers_retried_total": timings.n_retries,
            "palo_decode_seconds_total": timings.decode_s,
        }
        with self._lock:
            self._add("palo_answers_total", 1, f'reason="{answer.finish_reason}"')
            for name, amount in amounts.items():
                self._add(name, amount)

    def _add(self, name: str, amount: float, labels: str = "") -> None:
        counts = self._counts[name]
        counts[labels] = counts.get(labels, 0) + amount

    def text(self) -> str:
        """All of them."""
        lines = []
        with self._lock:
            for name, what in _COUNTERS.items():
                lines += [f"# HELP {name} {what}", f"# TYPE {name} counter"]
                counts = self._counts[name] or {"": 0}
                lines += [f"{name}{f'{{{labels}}}' if labels else ''} {n}" for labels, n in sorted(counts.items())]
            name = "palo_first_token_seconds"
            lines += [f"# HELP {name} From a request to the first text of its answer.", f"# TYPE {name} histogram"]
            lines += [f'{name}_bucket{{le="{bound}"}} {n}' for bound, n in zip(_BUCKETS_S, self._buckets, strict=True)]
            lines += [f'{name}_bucket{{le="+Inf"}} {self._n_first}', f"{name}_sum {self._sum_first_s}"]
            lines.append(f"{name}_count {self._n_first}")
        for name, (what, read) in self._asked.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {name} {what}", f"# TYPE {name} {kind}", f"{name} {read()}"]
        return "\n".join(lines) + "\n"
