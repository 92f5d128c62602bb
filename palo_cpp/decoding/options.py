"""How an answer is decoded: the options that a caller may set, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palo_cpp.decoding.json_grammar import json_grammar
from palo_cpp.decoding.logprobs import N_TOP_MAX
from palo_cpp.errors import ArgumentError

# What PALO's evaluation allows an answer (palo/eval/model_vqa.py, max_new_tokens).
DEFAULT_MAX_TOKENS = 1024
LANG_MODES = ("strict", "prefer", "off")
# `lang` is a promise that is kept, but a Hindi answer may still say which name a sign in the photo bears.
DEFAULT_LANG_MODE = "prefer"
SEED_MAX = 2**32 - 2  # 2**32 - 1 asks llama.cpp for a random seed, and so other programs


@dataclass(frozen=True)
class DecodingOptions:
    """How an answer is decoded. The default is greedy: the same question has the same answer.

    Attributes:
        max_tokens: tokens after which the answer is cut.
        temperature: 0 is greedy; higher is more random.
        top_k: keep the k likeliest tokens; 0 keeps all.
        top_p: keep the likeliest tokens that together have this probability; 1 keeps all.
        min_p: keep tokens with at least this share of the likeliest one's probability; 0 keeps all.
        seed: of the random choices; None draws one.
        stop: text that ends the answer and is not part of it.
        lang_mode: where an answer's language was asked for, how it is kept: "strict" lets only its script through,
            "prefer" also names and quoted words in others, "off" nothing but the request. Unless off, an answer that
            begins in another language is thrown away and asked for once more.
        json_schema: the answer is JSON that this schema accepts, as far as max_tokens lets it come; `{"type":
            "object"}` accepts any object. A keyword that is not supported is refused by its name.
        logprobs: say how likely each token was, and so many of the likeliest beside it; None says nothing.
        n_beams: paths that are searched side by side for the answer that is likeliest as a whole, in families that can;
            1 chooses token by token. None does what the family does (3 in VisCPM, 1 in PALO), or chooses token by token
            where a temperature, a schema or logprobs ask for that.
        should_stop: asked between the pieces of a prompt and after each token; True ends the answer as "cancelled".
            Other threads may so end it.
    """

    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    lang_mode: str = DEFAULT_LANG_MODE
    json_schema: Mapping[str, Any] | None = field(default=None, hash=False)
    logprobs: int | None = None
    n_beams: int | None = None
    should_stop: Callable[[], bool] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()))
        self._check_number("max_tokens", 1, 2**31 - 1, whole=True)
        self._check_number("temperature", 0.0, 100.0)
        self._check_number("top_k", 0, 2**31 - 1, whole=True)
        self._check_number("top_p", 0.0, 1.0)
        self._check_number("min_p", 0.0, 1.0)
        if self.seed is not None:
            self._check_number("seed", 0, SEED_MAX, whole=True)
        if self.logprobs is not None:
            self._check_number("logprobs", 0, N_TOP_MAX, whole=True)
        if self.json_schema is not None:
            json_grammar(self.json_schema)
        self._check_beams()
        if self.lang_mode not in LANG_MODES:
            raise ArgumentError(f"lang_mode: expected {', '.join(LANG_MODES)}, got {self.lang_mode!r}; choose one")
        for text in self.stop:
            if not isinstance(text, str) or not text:
                raise ArgumentError(f"stop: expected texts that are not empty, got {text!r}")

    def _check_beams(self) -> None:
        if self.n_beams is None:
            return
        self._check_number("n_beams", 1, 2**31 - 1, whole=True)
        if self.n_beams > 1 and (by := self._chosen_one_by_one):
            raise ArgumentError(f"n_beams: expected 1 with {by}, which chooses token by token, got {self.n_beams}")

    @property
    def _chosen_one_by_one(self) -> str:
        """What asks for tokens that are chosen one by one; "" where nothing does."""
        asked = {
            "a temperature": self.temperature > 0,
            "json_schema": self.json_schema is not None,
            "logprobs": self.logprobs is not None,
        }
        return next((name for name, is_asked in asked.items() if is_asked), "")

    def beams(self, most: int) -> int:
        """How many paths to search.

        Args:
            most: what the model can; also what it does where nothing else is asked for.

        Raises:
            ArgumentError: more are asked for.
        """
        if self.n_beams is None:
            return 1 if self._chosen_one_by_one else most
        if self.n_beams > most:
            can = "1, for this model chooses token by token" if most == 1 else f"1 to {most}"
            raise ArgumentError(f"n_beams: expected {can}, got {self.n_beams}")
        return self.n_beams

    def _check_number(self, name: str, low: float, high: float, *, whole: bool = False) -> None:
        value = getattr(self, name)
        kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            raise ArgumentError(f"{name}: expected {kind} from {low} to {high}, got {value!r}")
