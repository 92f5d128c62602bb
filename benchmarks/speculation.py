"""Speculation along given answers: how many guesses are right, and what that saves.

    python benchmarks/speculation.py FOLDER --texts TEXTS [--threads 2] [--answers 5]
    python benchmarks/speculation.py mobile --synthetic --vocabulary VOCABULARY.gguf --texts TEXTS

TEXTS holds a file CODE.txt for each language, an answer a line. Each answer is decoded after a short prompt as if the
model had chosen it, token by token, with and without speculation in turn, and is known to the next ones, as in `Palo`.
So random weights of the true shapes measure it, with the true vocabulary to split the texts. The answers must not be in
`palo_cpp.languages.text_samples`, which is known from the beginning.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import text_model

from palo_cpp.bench.noise import describe_machine
from palo_cpp.chat.prompt_run import PromptRun
from palo_cpp.decoding.speculation.counts import Followers, Guesser
from palo_cpp.decoding.speculation.step_times import StepTimes
from palo_cpp.decoding.speculation.steps import SpeculativeSteps
from palo_cpp.languages.detection import count_words
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.languages.text_samples import ARTICLE_1
from palo_cpp.llm.kv_cache import KvCache
from palo_cpp.llm.language_model import LanguageModel
from palo_cpp.segments import TextSegment


@dataclass
class Sums:
    """Of one language's answers."""

    plain_s: float = 0.0
    guessing_s: float = 0.0
    n_tokens: int = 0
    n_words: float = 0.0
    n_guessed: int = 0
    n_right: int = 0


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--vocabulary", type=Path, help="GGUF whose vocabulary splits the texts; the model's own")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--languages", default=",".join(LANGUAGES))
    parser.add_argument("--answers", type=int, default=5, help="of each language")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    print("| language | tokens per word | guessed | right | words per second without | with | times |")
    print("|---" * 7 + "|")
    with LanguageModel(text_model(options.model, is_synthetic=options.synthetic), n_threads=options.threads) as model:
        tokenize = _tokenizer(options.vocabulary) or model.tokenize
        times = StepTimes()
        for code in options.languages.split(","):
            answers = (options.texts / f"{code}.txt").read_text(encoding="utf-8").splitlines()[: options.answers]
            print(row(code, measure(model, tokenize, times, code, answers)), flush=True)


def _tokenizer(path: Path | None) -> Callable[[str], list[int]] | None:
    if path is None:
        return None
    from llama_cpp import Llama

    vocabulary = Llama(str(path), vocab_only=True, verbose=False)
    return lambda text: vocabulary.tokenize(text.encode(), add_bos=False)


def measure(
    model: LanguageModel, tokenize: Callable[[str], list[int]], times: StepTimes, code: str, answers: Sequence[str]
) -> Sums:
    """All answers of a language, with and without in turn."""
    prompt = [1, *tokenize(LANGUAGES[code].default_question)]
    known, sums, cache = Followers(), Sums(), KvCache(model)
    known.take_all(tokenize(ARTICLE_1[code]))
    no_images: Any = None  # the prompts are text

    def prefilled() -> PromptRun:
        run = PromptRun(cache, no_images)
        run.prefill([TextSegment(tuple(prompt))])
        return run

    def plain(tokens: Sequence[int]) -> None:
        run = prefilled()
        begun = time.perf_counter()
        for token in tokens:
            run.advance(token)
        sums.plain_s += time.perf_counter() - begun
        run.release()

    def guessing(tokens: Sequence[int]) -> None:
        run = prefilled()
        begun = time.perf_counter()
        guesser = Guesser(known)
        guesser.take_all(prompt)
        steps = SpeculativeSteps(run, guesser, times)
        for token in tokens:
            steps.advance(token)
        run.release()
        sums.guessing_s += time.perf_counter() - begun
        sums.n_guessed += steps.n_guessed
        sums.n_right += steps.n_right

    ways = [plain, guessing]
    for answer in answers:
        tokens = tokenize(answer)
        for way in ways:
            way(tokens)
        ways.reverse()  # what drifts falls on both
        known.take_all(tokens)
        sums.n_tokens += len(tokens)
        sums.n_words += count_words(answer)
    return sums


def row(code: str, sums: Sums) -> str:
    """One line of the table."""
    return (
        f"| {code} | {sums.n_tokens / sums.n_words:.1f} | {sums.n_guessed / sums.n_tokens:.0%} of tokens "
        f"| {sums.n_right / max(sums.n_guessed, 1):.0%} | {sums.n_words / sums.plain_s:.2f} "
        f"| {sums.n_words / sums.guessing_s:.2f} | {sums.plain_s / sums.guessing_s:.2f} |"
    )


if __name__ == "__main__":
    main()
