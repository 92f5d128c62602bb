"""Train PALO-Nano: `python -m nano.train --out nano/runs/default`; the same command again goes on where it stopped."""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import torch

from nano import tokenizer as nano_tokenizer
from nano.conversations import CODES, TRAINING, VALIDATION
from nano.data import Batch, Batches, Recipe
from nano.learning import Learner, Schedule, exact_answers, make_optimizer, train_step
from nano.model import Sizes
from nano.tokenizer import NanoTokenizer

CHECKPOINT, TOKENIZER, LOG = "checkpoint.pt", "tokenizer.model", "log.jsonl"


SIZES = Sizes()


@dataclass(frozen=True)
class Plan:
    """All that decides what a run learns; two runs of one plan on one machine are the same."""

    sizes: Sizes = SIZES
    n_steps: int = 12000
    n_batch: int = 16
    n_tokens: int = 320
    learning_rate: float = 1e-3
    seed: int = 0
    image_languages: tuple[str, ...] = CODES

    @property
    def schedule(self) -> Schedule:
        """Stages and learning rate."""
        return Schedule(self.n_steps, learning_rate=self.learning_rate)

    @property
    def recipe(self) -> Recipe:
        """How the training batches are made."""
        schedule = self.schedule
        n_warm_up = sum(schedule.stage(step) == "warm-up" for step in range(self.n_steps))
        return Recipe(self.n_batch, self.n_tokens, n_warm_up, self.n_steps // 4, self.image_languages)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """The inverse of `dataclasses.asdict`."""
        languages = tuple(values["image_languages"])
        return cls(**values | {"sizes": Sizes(**values["sizes"]), "image_languages": languages})


@dataclass
class Run:
    """A run in progress.

    Attributes:
        step: steps done.
        seconds: spent training, in all sittings.
    """

    plan: Plan
    folder: Path
    learner: Learner
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    sums: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def start(cls, plan: Plan, folder: Path, device: str) -> Run:
        """From nothing, or from the folder's checkpoint."""
        torch.manual_seed(plan.seed)
        learner = Learner(plan.sizes).to(device)
        run = cls(plan, folder, learner, make_optimizer(learner))
        if (folder / CHECKPOINT).exists():
            run._resume(torch.load(folder / CHECKPOINT, map_location=device, weights_only=True))
        return run

    def _resume(self, state: dict[str, Any]) -> None:
        saved = Plan.from_dict(state["plan"])
        if saved != self.plan:
            raise click.ClickException(
                f"{self.folder}: expected a run of {self.plan}, got one of {saved}; use another --out"
            )
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "plan": asdict(self.plan),
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self.folder / f"{CHECKPOINT}.partial"
        torch.save(state, partial)
        partial.replace(self.folder / CHECKPOINT)

    def log(self, **values: object) -> None:
        """Append to the log, and tell."""
        line = {"step": self.step, "seconds": round(self.seconds, 1), **values}
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        click.echo("  ".join(f"{name} {_short(value)}" for name, value in line.items()))


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "{" + " ".join(f"{key} {_short(part)}" for key, part in value.items()) + "}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def validate(run: Run, batches: list[Batch]) -> None:
    """Log the share of exact answers, in all, by task and by language."""
    results = [result for batch in batches for result in exact_answers(run.learner.nano, batch)]
    by_task, by_language = defaultdict(list), defaultdict(list)
    for exchange, is_right in results:
        by_task[exchange.task].append(is_right)
        by_language[exchange.language].append(is_right)
    run.log(
        exact=_share([is_right for _, is_right in results]),
        tasks={task: _share(right) for task, right in sorted(by_task.items())},
        languages={code: _share(by_language[code]) for code in CODES if code in by_language},
    )


def _share(right: list[bool]) -> float:
    return round(sum(right) / max(len(right), 1), 4)


def train(run: Run, device: str, *, n_workers: int, minutes: float, by_clock: bool, n_validation: int = 2) -> None:
    """Train until the plan is done, the time is up, or somebody interrupts; the checkpoint is written in any case.

    Args:
        run: what to go on with.
        device: "cpu" or "cuda".
        n_workers: processes that make batches.
        minutes: of this sitting, or with `by_clock` of the whole run.
        by_clock: the learning rate ends when the minutes do, not when the steps do.
        n_validation: batches of held-out pictures, looked at ten times and at the end.
    """
    plan, tokenizer = run.plan, NanoTokenizer(run.folder / TOKENIZER)
    validation = _validation(plan, tokenizer, n_validation, device)
    stop = _StopSignal()
    begun, saved, before = time.monotonic(), time.monotonic(), run.seconds
    limit = minutes * 60
    for batch in _batches(plan, tokenizer, run.step, n_workers, device):
        progress = run.step / plan.n_steps
        if by_clock:
            progress = max(progress, run.seconds / limit)
        stage, step_begun = plan.schedule.stage(run.step), time.monotonic()
        losses = train_step(run.learner, run.optimizer, batch, stage, plan.schedule.rate(run.step, progress))
        run.step, run.seconds = run.step + 1, before + time.monotonic() - begun
        for name, value in losses.items():
            run.sums[name].append(value)
        run.sums["step_s"].append(time.monotonic() - step_begun)
        if run.step % 50 == 0:
            _report(run, stage)
        if run.step % max(plan.n_steps // 20, 1) == 0:
            validate(run, validation)
        if time.monotonic() - saved > 240:
            run.save()
            saved = time.monotonic()
        if stop.asked or (run.seconds if by_clock else time.monotonic() - begun) > limit:
            break
    run.save()
    validate(run, validation)


def _report(run: Run, stage: str) -> None:
    """The losses since the last report, and the pace."""
    pace = run.plan.n_batch / statistics.median(run.sums.pop("step_s"))  # the median: others may halt this process
    means = {name: float(torch.stack(values).mean()) for name, values in run.sums.items()}
    run.log(stage=stage, pictures_per_s=round(pace, 1), **{name: round(mean, 4) for name, mean in means.items()})
    run.sums.clear()


class _StopSignal:
    """Notes SIGINT and SIGTERM, so that the step in progress can end and be saved."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self.asked = True


def _validation(plan: Plan, tokenizer: NanoTokenizer, n: int, device: str) -> list[Batch]:
    batches = Batches(tokenizer, plan.sizes, Recipe(32, plan.n_tokens), n, VALIDATION.start)
    return [batches[i].to(device) for i in range(n)]


def _batches(plan: Plan, tokenizer: NanoTokenizer, step: int, n_workers: int, device: str) -> Iterator[Batch]:
    """The training batches from `step` on, in order."""
    first_seed = TRAINING.start + plan.seed * 10**8
    batches = Batches(tokenizer, plan.sizes, plan.recipe, plan.n_steps, first_seed)
    loader: torch.utils.data.DataLoader[Batch] = torch.utils.data.DataLoader(
        batches,
        batch_size=None,
        sampler=range(step, plan.n_steps),
        num_workers=n_workers,
        prefetch_factor=2 if n_workers else None,
        pin_memory=device == "cuda",
        worker_init_fn=_ignore_interrupts,
    )
    for batch in loader:
        batch.answers.clear()
        yield batch.to(device)


def _ignore_interrupts(_: int) -> None:
    """Ctrl-C is for the process that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


@click.command()
@click.option(
    "--out", "folder", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run."
)
@click.option("--steps", "n_steps", type=int, default=Plan.n_steps, show_default=True)
@click.option("--batch", "n_batch", type=int, default=Plan.n_batch, show_default=True, help="Pictures in a step.")
@click.option("--learning-rate", type=float, default=Plan.learning_rate, show_default=True)
@click.option("--projector", type=click.Choice(["ldpnet", "mlp2x_gelu"]), default="ldpnet", show_default=True)
@click.option("--image-languages", default="all", show_default=True, help="Codes, as en,hi: pictures in these only.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--minutes", type=float, default=float("inf"), help="Stop after so long; the same command goes on.")
@click.option("--by-clock", is_flag=True, help="Let the learning rate end with --minutes, whatever the steps.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--workers", "n_workers", type=int, default=None, help="Processes that draw.  [default: 1, GPU: cores - 1]"
)
@click.option("--threads", "n_threads", type=int, default=0, help="Threads that compute; 0 for all cores.")
def main(
    folder: Path,
    n_steps: int,
    n_batch: int,
    learning_rate: float,
    projector: str,
    image_languages: str,
    seed: int,
    minutes: float,
    by_clock: bool,
    device: str,
    n_workers: int | None,
    n_threads: int,
) -> None:
    """Train PALO-Nano into a folder, or go on with the run that is there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if n_threads:
        torch.set_num_threads(n_threads)
    if n_workers is None:
        n_workers = max(1, (os.cpu_count() or 2) - 1) if device == "cuda" else 1
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / TOKENIZER).exists():
        nano_tokenizer.train(folder / TOKENIZER)
    languages = CODES if image_languages == "all" else tuple(image_languages.split(","))
    sizes = Sizes(projector=projector)
    n_tokens = Plan.n_tokens + sizes.n_image_tokens - SIZES.n_image_tokens
    plan = Plan(sizes, n_steps, n_batch, n_tokens, learning_rate, seed, languages)
    run = Run.start(plan, folder, device)
    n_parameters = sum(p.numel() for p in run.learner.nano.parameters())
    click.echo(f"{n_parameters / 1e6:.2f} million parameters on {device}, from step {run.step} of {n_steps}")
    train(run, device, n_workers=n_workers, minutes=minutes, by_clock=by_clock)


if __name__ == "__main__":
    main()
