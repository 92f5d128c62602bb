"""Several clients at once, each with a conversation of its own: tokens per second in all, against one client's.

    python benchmarks/many_clients.py mobile --synthetic [--clients 1,4,8] [--n-gen 48] [--runs 3] [--threads 2]
    python benchmarks/many_clients.py FOLDER

Each client is a thread that has asked about an image of its own; the clock runs from when all prompts are prefilled to
when the first answer ends. The numbers of clients take turns. Afterwards one client asks a second question while three
others are answered, and what was decoded once more is printed. `--synthetic` takes the random weights of
`palo-cpp bench`, kept in the same cache. Answers are sampled, for random weights repeat themselves otherwise.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from models import whole_model
from numpy.typing import NDArray

from palo_cpp import Palo
from palo_cpp.bench.noise import describe_machine


class Clients:
    """Threads that read one answer each, at the same time.

    Args:
        palo: the model.
        n_clients: threads.
        n_gen: tokens of each answer.

    Attributes:
        tokens_per_s: of all, from when all prompts are prefilled to the end of the first answer.
        tokens_per_cpu_s: the same, by the processor's time: on a busy machine, with one thread, the better measure.
    """

    def __init__(self, palo: Palo, n_clients: int, n_gen: int) -> None:
        self._palo, self._n_gen = palo, n_gen
        self._n_tokens = [0] * n_clients
        self._all_read = threading.Barrier(n_clients, self._begin)
        self._begun_at = self._cpu_at = 0.0
        self._n_before = 0
        self.tokens_per_s = self.tokens_per_cpu_s = 0.0

    def run(self) -> None:
        """Let all ask and read."""
        threads = [threading.Thread(target=self._read, args=(number,)) for number in range(len(self._n_tokens))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _begin(self) -> None:
        self._n_before = sum(self._n_tokens)
        self._begun_at, self._cpu_at = time.perf_counter(), time.process_time()

    def _end(self) -> None:
        if not self.tokens_per_s:
            n_made = sum(self._n_tokens) - self._n_before
            self.tokens_per_s = n_made / (time.perf_counter() - self._begun_at)
            self.tokens_per_cpu_s = n_made / (time.process_time() - self._cpu_at)

    def _read(self, number: int) -> None:
        def count() -> bool:  # asked after each token, and before that between the pieces of the prompt
            self._n_tokens[number] += 1
            return False

        stream = self._palo.stream(picture(number), f"What is number {number}?", **options(number, self._n_gen, count))
        next(stream)
        self._all_read.wait()
        stream.read()
        self._end()


def options(seed: int, n_gen: int, count: Callable[[], bool]) -> dict[str, object]:
    """Of answers whose length is known."""
    return {"max_tokens": n_gen, "temperature": 1.0, "seed": seed, "lang_mode": "off", "should_stop": count}


def picture(number: int) -> NDArray[np.uint8]:
    """An image unlike any other's, [48, 64, 3] uint8."""
    return np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def second_question(palo: Palo) -> str:
    """What a second question costs while three others are answered, whose answers outlast it."""
    palo.clear_cache()
    chat = palo.chat(picture(0), lang_mode="off")
    chat.ask("What is this?", max_tokens=8, temperature=1.0, seed=0)
    streams = [palo.stream(picture(n), "And this?", **options(n, 200, lambda: False)) for n in (1, 2, 3)]
    threads = [threading.Thread(target=stream.read) for stream in streams]
    for stream, thread in zip(streams, threads, strict=True):
        next(stream)
        thread.start()
    before = palo.counters()
    timings = chat.ask("And what else?", max_tokens=8, temperature=1.0, seed=0).timings
    after = palo.counters()
    n_running = after.n_running
    for stream, thread in zip(streams, threads, strict=True):
        stream.close()
        thread.join()
    return (
        f"second question, {n_running} others: {after.n_images_encoded - before.n_images_encoded} images encoded, "
        f"{after.n_rows_repeated - before.n_rows_repeated} rows repeated, "
        f"{timings.n_prompt_tokens - timings.n_cached_tokens} of {timings.n_prompt_tokens} tokens prefilled"
    )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--clients", default="1,4,8")
    parser.add_argument("--n-gen", type=int, default=48)
    parser.add_argument("--n-ctx", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    path = whole_model(asked.model, is_synthetic=asked.synthetic)
    numbers = [int(number) for number in asked.clients.split(",")]
    print(describe_machine(), flush=True)
    with Palo(path, n_threads=asked.threads, n_ctx=asked.n_ctx, n_parallel=max(4, *numbers)) as palo:
        for number in range(max(4, *numbers)):
            palo.embed_image(picture(number))
        speeds: dict[int, list[float]] = {n: [] for n in numbers}
        per_cpu_s: dict[int, list[float]] = {n: [] for n in numbers}
        for _ in range(asked.runs):
            for n in numbers:
                clients = Clients(palo, n, asked.n_gen)
                clients.run()
                speeds[n].append(clients.tokens_per_s)
                per_cpu_s[n].append(clients.tokens_per_cpu_s)
                print(
                    f"{n} clients: {clients.tokens_per_s:.1f} tokens/s, {clients.tokens_per_cpu_s:.1f} per CPU second"
                )
        for n in numbers:
            wall, cpu = (median(each[n]) for each in (speeds, per_cpu_s))
            one, one_cpu = (median(each[numbers[0]]) for each in (speeds, per_cpu_s))
            print(
                f"{n:2} clients: {wall:7.1f} tokens/s, {wall / one:.2f} times the first; "
                f"{cpu:7.1f} per CPU second, {cpu / one_cpu:.2f} times"
            )
        print(palo.counters())
        print(second_question(palo))


if __name__ == "__main__":
    main()
