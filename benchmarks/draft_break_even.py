"""Would a smaller model that drafts pay? What its drafts and their check cost, and what share must be right.

    python benchmarks/draft_break_even.py 7b mobile --synthetic [--threads 2] [--runs 5]
    python benchmarks/draft_break_even.py FOLDER DRAFT_FOLDER

For n drafted tokens the larger model reads n + 1 rows at once, the smaller one n single ones, after each other. The
gain at a share a of right drafts is (1 + a + ... + a^n) single steps of the larger model against that (Leviathan et al.
2023, section 3.1). Texts play no part, so random weights of the true shapes show the costs; they cannot show the share.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
from models import text_model

from palo_cpp.bench.noise import describe_machine
from palo_cpp.llm.language_model import LanguageModel

N_BEFORE = 300  # tokens of context: an image and a question
N_DRAFTED = (1, 2, 3, 4, 5, 7)
SHARES = (0.5, 0.6, 0.7, 0.8)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("draft")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    costs = [
        step_costs(text_model(name, is_synthetic=options.synthetic), options.threads, options.runs)
        for name in (options.model, options.draft)
    ]
    print(report(*costs))


def step_costs(path: Path, n_threads: int, n_runs: int) -> dict[int, float]:
    """Seconds of one step by its rows: medians, all sizes in turn in each run."""
    sizes = sorted({1, *(n + 1 for n in N_DRAFTED)})
    times: dict[int, list[float]] = {n: [] for n in sizes}
    with LanguageModel(path, n_ctx=N_BEFORE + 64, n_threads=n_threads) as model:
        tokens = np.random.default_rng(0).integers(3, 1000, N_BEFORE).tolist()
        model.decode(tokens, position=0)
        for _ in range(n_runs):
            for n in sizes:
                begun = time.perf_counter()
                model.decode(tokens[:n], position=N_BEFORE, all_logits=True)
                times[n].append(time.perf_counter() - begun)
                model.remove(0, N_BEFORE)
    return {n: median(each) for n, each in times.items()}


def report(model: dict[int, float], draft: dict[int, float]) -> str:
    """The gain by drafted tokens and share of right ones; 1 is as quick as without."""
    lines = [
        f"one step: {model[1] * 1e3:.1f} ms, of the draft {draft[1] * 1e3:.1f} ms",
        "| drafted | rows cost (single steps) | " + " | ".join(f"{share:.0%} right" for share in SHARES) + " |",
        "|---" * (2 + len(SHARES)) + "|",
    ]
    for n in N_DRAFTED:
        cost = (model[n + 1] + n * draft[1]) / model[1]
        gains = [sum(share**i for i in range(n + 1)) / cost for share in SHARES]
        lines.append(f"| {n} | {model[n + 1] / model[1]:.2f} | " + " | ".join(f"{gain:.2f}" for gain in gains) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
