"""What to measure: stages, lengths, files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from palo_cpp.bench.contestant import N_WRITTEN, Setup
from palo_cpp.bench.timed_text import N_TOKENS_AFTER, N_TOKENS_BEFORE
from palo_cpp.bench.worker import N_TOKENS_LOGITS
from palo_cpp.errors import ArgumentError
from palo_cpp.families.family import Family
from palo_cpp.families.registry import family_of
from palo_cpp.ggml.backend import BackendMode
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.machine import n_physical_cores

STAGES = ("encode", "projector", "load", "prefill", "decode", "beams", "first-token", "fidelity")
TEXT_STAGES = frozenset(("load", "prefill", "decode", "beams", "first-token"))
# The largest image grid of the known models; the context must hold the longest prompt.
_N_IMAGE_TOKENS_MAX = 576
_N_QUESTION_TOKENS_MAX = 256  # system text and question, in the script that takes most
_CTX_STEP = 256

# Lengths of prompts, and of what the context holds when decoding begins. Where prompts are read as a whole and answers
# searched, 89 tokens are an image and a short question, 600 a conversation.
_USUAL = (144, 640), (64, 1000)
_USUAL_BEAMS = (89, 600), (89, 600)


@dataclass(frozen=True)
class BenchPlan:
    """What to measure.

    Attributes:
        model: its name, for the report.
        text, mmproj: the files.
        stages: of `STAGES`.
        with_llama_cpp: measure llama.cpp, too; None is: where it can run the model.
        n_threads: 0 is the physical cores this process may use.
        n_runs: runs of which the median is taken.
        prompt_tokens: lengths of prompts to prefill; () is what is usual for the model.
        n_gen: tokens to decode.
        contexts: tokens that the context holds when decoding begins; () is what is usual for the model.
        precision: of our vision encoder; None is its default.
        backend: kernels of our language model.
        draft: a smaller model that drafts where answers are written; None is none.
        speaks: whether the model's vocabulary is that of a language, so that words can be counted.
        n_image_products: multiplications of an image, where they are known; 0 where not.
    """

    model: str
    text: Path
    mmproj: Path
    stages: frozenset[str] = frozenset(STAGES)
    with_llama_cpp: bool | None = None
    n_threads: int = 0
    n_runs: int = 5
    prompt_tokens: tuple[int, ...] = ()
    n_gen: int = 32
    contexts: tuple[int, ...] = ()
    precision: str | None = None
    backend: BackendMode = "auto"
    draft: str | None = None
    speaks: bool = True
    n_image_products: int = 0

    def __post_init__(self) -> None:
        usual = _USUAL_BEAMS if self.n_paths > 1 else _USUAL
        object.__setattr__(self, "prompt_tokens", self.prompt_tokens or usual[0])
        object.__setattr__(self, "contexts", self.contexts or usual[1])
        if unknown := self.stages - set(STAGES):
            raise ArgumentError(f"stages: expected some of {', '.join(STAGES)}, got {', '.join(sorted(unknown))}")
        if not self.stages or self.n_runs < 1 or self.n_gen < 1:
            raise ArgumentError("bench: expected at least one stage, run and token to decode, got none")
        if self.stages == {"beams"} and self.n_paths == 1:
            raise ArgumentError("beams: expected a model that searches several paths, got one that decodes one")
        if min(self.prompt_tokens) < 1 or max(self.prompt_tokens) > 1 << 16:
            raise ArgumentError(f"--prompt-tokens: expected 1 to 65536, got {list(self.prompt_tokens)}")
        if min(self.contexts) < 1 or max(self.contexts) > 1 << 16:
            raise ArgumentError(f"--context: expected 1 to 65536, got {list(self.contexts)}")

    @cached_property
    def family(self) -> Family:
        """The family of the model."""
        return family_of(read_header(self.text))

    @property
    def n_paths(self) -> int:
        """Paths of an answer that the model searches; 1 where it decodes one."""
        beam = self.family.capabilities.beam
        return beam.n_beams if beam else 1

    @property
    def needs_text(self) -> bool:
        """Whether the language model is run at all."""
        return bool(self.stages & TEXT_STAGES)

    @property
    def n_ctx(self) -> int:
        """Tokens of context that the stages need; 0 without the language model."""
        if not self.needs_text:
            return 0
        longest = max(*self.prompt_tokens, max(self.contexts) + self.n_gen, N_TOKENS_LOGITS)
        longest = max(longest, _N_IMAGE_TOKENS_MAX + N_TOKENS_BEFORE + N_TOKENS_AFTER)
        if self.speaks:
            longest = max(longest, _N_IMAGE_TOKENS_MAX + _N_QUESTION_TOKENS_MAX + N_WRITTEN)
        return (longest + _CTX_STEP - 1) // _CTX_STEP * _CTX_STEP

    def setup(self) -> Setup:
        """What each side loads."""
        n_threads = self.n_threads or n_physical_cores()
        return Setup(self.text, self.mmproj, n_threads, self.n_ctx, self.precision, self.backend, self.draft)
