"""Ten answers about one image: side by side, against one by one with and without the prefix that they share.

    python benchmarks/ten_answers.py mobile --synthetic [--n-gen 32] [--runs 3]
    python benchmarks/ten_answers.py FOLDER

The three ways run in turn. Every answer gets `--n-gen` tokens, unless the model ends it earlier; the tokens made are
printed. `--synthetic` takes the random weights of `palo-cpp bench`, kept in the same cache.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection
from statistics import median

import numpy as np
from models import whole_model

from palo_cpp import Answer, Palo
from palo_cpp.bench.noise import describe_machine
from palo_cpp.languages.languages import LANGUAGES

Answers = dict[str, Answer]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--n-gen", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--without-cold", action="store_true", help="leave out the slowest way")
    options = parser.parse_args()
    path = whole_model(options.model, is_synthetic=options.synthetic)
    print(describe_machine(), flush=True)
    with Palo(path, n_threads=options.threads) as palo:
        measure(palo, options.n_gen, options.runs, with_cold=not options.without_cold)


def measure(palo: Palo, n_gen: int, n_runs: int, *, with_cold: bool) -> None:
    """Run the ways in turn and print medians."""
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)

    def side_by_side() -> Answers:
        palo.clear_cache()
        return palo.describe(image, max_tokens=n_gen)

    def one_by_one() -> Answers:
        palo.clear_cache()
        return {code: palo.ask(image, lang=code, max_tokens=n_gen) for code in LANGUAGES}

    def fresh() -> Answers:
        answers = {}
        for code in LANGUAGES:
            palo.clear_cache()
            answers[code] = palo.ask(image, lang=code, max_tokens=n_gen)
        return answers

    ways = {"side by side": side_by_side, "one by one, prefix kept": one_by_one, "one by one, nothing kept": fresh}
    if not with_cold:
        del ways["one by one, nothing kept"]
    palo.ask(image, max_tokens=1)  # pages of the model's file
    runs = [{name: timed(name, way) for name, way in ways.items()} for _ in range(n_runs)]
    fastest = median(run["side by side"][0] for run in runs)
    for name in ways:
        elapsed = [run[name][0] for run in runs]
        answers = runs[-1][name][1].values()
        print(f"{name:26} {median(elapsed):7.2f} s, {median(elapsed) / fastest:.2f} times the first; {costs(answers)}")


def costs(answers: Collection[Answer]) -> str:
    """Where the time of one run went, and on how much."""
    timings = [answer.timings for answer in answers]
    encode_s, prefill_s = sum(each.encode_s for each in timings), sum(each.prefill_s for each in timings)
    n_read = sum(each.n_prompt_tokens - each.n_cached_tokens for each in timings)
    n_generated = sum(each.n_generated for each in timings)
    n_encoded, n_retries = sum(each.n_images_encoded for each in timings), sum(each.n_retries for each in timings)
    return (
        f"{n_encoded} images encoded in {encode_s:.1f} s, {n_read} prompt tokens read in {prefill_s:.1f} s, "
        f"{n_generated} tokens generated, {n_retries} answers begun again"
    )


def timed(name: str, work: Callable[[], Answers]) -> tuple[float, Answers]:
    """Seconds, printed with those of the processor (of use on a shared machine), and the answers."""
    begun_at, cpu_begun_at = time.perf_counter(), time.process_time()
    answers = work()
    elapsed_s = time.perf_counter() - begun_at
    print(f"{name}: {elapsed_s:.2f} s, processor {time.process_time() - cpu_begun_at:.2f} s", flush=True)
    return elapsed_s, answers


if __name__ == "__main__":
    main()
