"""Train PALO-Nano: `python -m nano.train --out nano/runs/default`; the same command again goes on where it stopped."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
import torch.multiprocessing

from nano import tokenizer as nano_tokenizer
from nano.conversations import CODES, VALIDATION
from nano.data import Batch, Batches
from nano.labels import FIELDS
from nano.losses import apply_gradients, backward, exact_answers, fields_seen
from nano.model import Sizes
from nano.processes import Team
from nano.stages import DECODER, PLANS, STAGES, TOWER
from nano.tokenizer import NanoTokenizer
from nano.training_run import TOKENIZER, Plan, StageRun, borrow_tower, checkpoint_of


@dataclass(frozen=True)
class Sitting:
    """How a stage is trained this time; none of it changes what is learnt, but for `by_clock`.

    Attributes:
        device: "cpu" or "cuda".
        n_workers: processes that make batches, for each that trains.
        minutes: of this sitting, or with `by_clock` of the whole run.
        by_clock: a stage's learning rate ends with its share of the minutes, not with its steps.
        n_validation: batches of held-out pictures, looked at ten times and at the end.
    """

    device: str = "cpu"
    n_workers: int = 0
    minutes: float = float("inf")
    by_clock: bool = False
    n_validation: int = 2


def validate(run: StageRun, batches: list[Batch]) -> None:
    """Log what held-out pictures show: patches named right, or exact answers in all, by task and by language."""
    run.learner.eval()
    if run.name == TOWER:
        seen = [fields_seen(run.learner, batch) for batch in batches]
        run.learner.train()
        run.log(seen={name: round(sum(each[name] for each in seen) / len(seen), 4) for name in FIELDS})
        return
    by_task, by_language, all_right = defaultdict(list), defaultdict(list), list[bool]()
    for batch in batches:
        told = run.learner.told(batch.fields) if run.name == DECODER else None
        for exchange, is_right in exact_answers(run.learner.nano, batch, told):
            by_task[exchange.task].append(is_right)
            by_language[exchange.language].append(is_right)
            all_right.append(is_right)
    run.learner.train()
    run.log(
        exact=_share(all_right),
        tasks={task: _share(right) for task, right in sorted(by_task.items())},
        languages={code: _share(by_language[code]) for code in CODES if code in by_language},
    )


def _share(right: Sequence[bool]) -> float:
    return round(sum(right) / max(len(right), 1), 4)


def train_stage(run: StageRun, team: Team, sitting: Sitting) -> None:
    """Train until the stage is done, the time is up, or somebody interrupts; the checkpoint is written in any case."""
    stage, tokenizer = run.stage, NanoTokenizer(run.folder / TOKENIZER)
    validation = _validation(run, tokenizer, sitting) if team.rank == 0 else []
    limit = sitting.minutes * 60 * (stage.minutes if sitting.by_clock else 1.0)
    stop, begun, before = _StopSignal(), time.monotonic(), run.seconds
    saved, progress, parameters = begun, 0.0, list(run.learner.parameters())
    for batch in _batches(run, tokenizer, team, sitting):
        losses = backward(run.learner, batch, run.name)
        clock = (run.seconds - (0.0 if sitting.by_clock else before)) / limit
        asked, clock = team.average(parameters, float(stop.asked), clock)
        progress = max(run.step / stage.n_steps, clock if sitting.by_clock else 0.0)
        apply_gradients(run.optimizer, parameters, stage.rate(run.step, progress))
        now = before + time.monotonic() - begun
        run.sums["step_s"].append(now - run.seconds)
        run.step, run.seconds = run.step + 1, now
        for name, value in losses.items():
            run.sums[name].append(value)
        if team.rank == 0:
            if run.step % 50 == 0:
                run.report()
            if run.step % max(stage.n_steps // 20, 1) == 0:
                validate(run, validation)
            if time.monotonic() - saved > 240:
                run.save()
                saved = time.monotonic()
        if asked or clock > 1:
            break
    run.is_done = run.step >= stage.n_steps or (sitting.by_clock and clock > 1)
    if team.rank == 0:
        run.save()
        validate(run, validation)
    team.wait()


class _StopSignal:
    """Notes SIGINT and SIGTERM, so that the step in progress can end and be saved."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, *_: object) -> None:
        self.asked = True


def _validation(run: StageRun, tokenizer: NanoTokenizer, sitting: Sitting) -> list[Batch]:
    """Held-out pictures, none of them easier, with questions in all ten languages, whatever the run learns from."""
    recipe = replace(run.plan.recipe(run.name, 1), image_languages=CODES, n_curriculum=0)
    batches = Batches(tokenizer, run.plan.sizes, recipe, sitting.n_validation, VALIDATION.start)
    return [batches[i].to(sitting.device) for i in range(sitting.n_validation)]


def _batches(run: StageRun, tokenizer: NanoTokenizer, team: Team, sitting: Sitting) -> Iterator[Batch]:
    """The training batches of one process from its next step on, in order."""
    plan, n = run.plan, run.stage.n_steps * team.n
    batches = Batches(tokenizer, plan.sizes, plan.recipe(run.name, team.n), n, plan.first_seed(run.name))
    loader: torch.utils.data.DataLoader[Batch] = torch.utils.data.DataLoader(
        batches,
        batch_size=None,
        sampler=range(run.step * team.n + team.rank, n, team.n),
        num_workers=sitting.n_workers,
        prefetch_factor=2 if sitting.n_workers else None,
        pin_memory=sitting.device == "cuda",
        collate_fn=Batch.without_answers,
        worker_init_fn=_ignore_interrupts,
    )
    for batch in loader:
        yield batch.to(sitting.device)


def _ignore_interrupts(_: int) -> None:
    """Ctrl-C is for the process that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


# ---- all stages


def train(plan: Plan, folder: Path, sitting: Sitting, n_processes: int) -> None:
    """Train all stages that are not done yet, one after the other."""
    n = n_processes if sitting.device == "cpu" else 1
    for name in STAGES:
        if not _is_done(folder, name):
            with tempfile.TemporaryDirectory() as meeting:
                jobs = [(name, rank, n, Path(meeting) / name, plan, folder, sitting) for rank in range(n)]
                _run_all(_train_process, jobs)
        if not _is_done(folder, name):
            return


def _is_done(folder: Path, name: str) -> bool:
    path = checkpoint_of(folder, name)
    return path.exists() and torch.load(path, map_location="cpu", weights_only=True, mmap=True)["is_done"]


def _run_all(work: Callable[..., None], jobs: list[Any]) -> None:
    """Each job in a process of one thread, all at once; a single one here."""
    if len(jobs) == 1:
        work(*jobs[0])
        return
    context = torch.multiprocessing.get_context("spawn")
    processes = [context.Process(target=_alone, args=(work, *job)) for job in jobs]
    for process in processes:
        process.start()

    def pass_on(number: int, _: object) -> None:
        for process in processes:
            if process.pid and number == signal.SIGTERM:  # a terminal sends SIGINT to all by itself
                os.kill(process.pid, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise click.ClickException("a process that trained failed, see above; the same command goes on")


def _alone(work: Callable[..., None], *job: Any) -> None:
    torch.set_num_threads(1)
    work(*job)


def _train_process(
    name: str, rank: int, n: int, meeting_point: Path, plan: Plan, folder: Path, sitting: Sitting
) -> None:
    team = Team.join(rank, n, meeting_point)
    run = StageRun.start(plan, name, folder, sitting.device, team)
    if rank == 0:
        click.echo(f"{name}: from step {run.step} of {run.stage.n_steps} on, {n} processes on {sitting.device}")
    train_stage(run, team, sitting)
    team.leave()


@click.command()
@click.option(
    "--out", "folder", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run."
)
@click.option(
    "--plan",
    "plan_name",
    type=click.Choice(["auto", *PLANS]),
    default="auto",
    show_default=True,
    help="Steps and batches made for two cores or for a GPU.  [auto: by --device]",
)
@click.option("--steps", "factor", type=float, default=1.0, show_default=True, help="Times the plan's steps.")
@click.option("--projector", type=click.Choice(["ldpnet", "mlp2x_gelu"]), default="ldpnet", show_default=True)
@click.option("--image-languages", default="all", show_default=True, help="Codes, as en,hi: pictures in these only.")
@click.option(
    "--tower",
    "lender",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A run whose tower to take instead of training one: a tower learns no words.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--minutes", type=float, default=float("inf"), help="Stop after so long; the same command goes on.")
@click.option("--by-clock", is_flag=True, help="Let each stage end with its share of --minutes, whatever its steps.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--workers", "n_workers", type=int, default=None, help="Processes that draw.  [default: 0, GPU: cores - 1]"
)
@click.option("--processes", "n_processes", type=int, default=0, help="Processes that compute; 0 for one on each core.")
def main(
    folder: Path,
    plan_name: str,
    factor: float,
    projector: str,
    image_languages: str,
    lender: Path | None,
    seed: int,
    minutes: float,
    by_clock: bool,
    device: str,
    n_workers: int | None,
    n_processes: int,
) -> None:
    """Train PALO-Nano into a folder, or go on with the run that is there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    n_cores = os.cpu_count() or 1
    if n_workers is None:
        n_workers = max(1, n_cores - 1) if device == "cuda" else 0
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / TOKENIZER).exists():
        nano_tokenizer.train(folder / TOKENIZER)
    sizes = Sizes(projector=projector)
    languages = CODES if image_languages == "all" else tuple(image_languages.split(","))
    stages = PLANS[device if plan_name == "auto" else plan_name]
    plan = Plan(sizes, stages, seed, languages).scaled(factor)
    if lender is not None and not _is_done(folder, TOWER):
        borrow_tower(plan, folder, lender)
    train(plan, folder, Sitting(device, n_workers, minutes, by_clock), n_processes or n_cores)


if __name__ == "__main__":
    main()
