"""One stage of a training run in its folder: its plan, its state, its checkpoint, its log."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import torch

from nano.conversations import CODES, TRAINING
from nano.data import Recipe
from nano.losses import Learner, make_optimizer
from nano.model import Sizes
from nano.muon import Muon
from nano.processes import ALONE, Team
from nano.stages import DECODER, STAGES, STARTS_FROM, TOWER, TWO_CORES, Stage

CHECKPOINT, TOKENIZER, LOG = "checkpoint.pt", "tokenizer.model", "log.jsonl"
_SEEDS = 2 * 10**7  # of pictures for each stage; no stage gets so far


@dataclass(frozen=True)
class Plan:
    """All that decides what a run learns; two runs of one plan on one machine are the same."""

    sizes: Sizes = field(default_factory=Sizes)
    stages: tuple[Stage, ...] = TWO_CORES
    seed: int = 0
    image_languages: tuple[str, ...] = CODES

    def stage(self, name: str) -> Stage:
        """One of the stages."""
        return next(stage for stage in self.stages if stage.name == name)

    def scaled(self, factor: float) -> Plan:
        """The same with so many times the steps."""
        return replace(self, stages=tuple(replace(s, n_steps=max(2, round(s.n_steps * factor))) for s in self.stages))

    def recipe(self, name: str, n_processes: int) -> Recipe:
        """How the batches of one process are made."""
        stage = self.stage(name)
        return Recipe(
            n_batch=max(1, stage.n_batch // n_processes),
            n_tokens=self.sizes.n_image_tokens + stage.n_text,
            draws=name != DECODER,
            talks=name != TOWER,
            n_curriculum=round(stage.curriculum * stage.n_steps * n_processes),
            image_languages=self.image_languages,
        )

    def first_seed(self, name: str) -> int:
        """Where a stage's pictures begin: no stage sees those of another."""
        return TRAINING.start + self.seed * 10**8 + STAGES.index(name) * _SEEDS

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """The inverse of `to_dict`."""
        return cls(
            Sizes(**values["sizes"]),
            tuple(Stage(**stage) for stage in values["stages"]),
            values["seed"],
            tuple(values["image_languages"]),
        )


@dataclass
class StageRun:
    """A stage in progress.

    Attributes:
        folder: of the whole run; the stage has a folder of its own in it.
        step: steps done.
        seconds: spent training, in all sittings.
    """

    plan: Plan
    name: str
    folder: Path
    learner: Learner
    optimizer: Muon
    step: int = 0
    seconds: float = 0.0
    is_done: bool = False
    sums: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def start(cls, plan: Plan, name: str, folder: Path, device: str = "cpu", team: Team = ALONE) -> StageRun:
        """From its own checkpoint, or from those of the stages before, or from nothing."""
        torch.manual_seed(plan.seed)
        learner = Learner(plan.sizes).to(device)
        run = cls(plan, name, folder, learner, make_optimizer(learner, name, team))
        if run.checkpoint.exists():
            run._resume(torch.load(run.checkpoint, map_location=device, weights_only=True))
        else:
            for earlier in STARTS_FROM[name]:
                run._take_over(earlier, device)
        return run

    @property
    def stage(self) -> Stage:
        """What it follows."""
        return self.plan.stage(self.name)

    @property
    def checkpoint(self) -> Path:
        """Its file."""
        return checkpoint_of(self.folder, self.name)

    def _take_over(self, earlier: str, device: str) -> None:
        """What an earlier stage has learnt."""
        state = torch.load(checkpoint_of(self.folder, earlier), map_location=device, weights_only=True)
        self._check_plan(state)
        names = self.learner.part(earlier) if not STARTS_FROM[earlier] else self.learner.state_dict()
        self.learner.load_state_dict({name: state["learner"][name] for name in names}, strict=False)

    def _resume(self, state: dict[str, Any]) -> None:
        self._check_plan(state)
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.is_done = state["step"], state["seconds"], state["is_done"]

    def _check_plan(self, state: dict[str, Any]) -> None:
        saved = Plan.from_dict(state["plan"])
        if saved != self.plan:
            raise click.ClickException(
                f"{self.folder}: expected a run of {self.plan}, got one of {saved}; use another --out"
            )

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        _write(
            self.checkpoint,
            {
                "plan": self.plan.to_dict(),
                "learner": self.learner.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "is_done": self.is_done,
            },
        )

    def log(self, **values: object) -> None:
        """Append to the log, and print."""
        line = {"stage": self.name, "step": self.step, "seconds": round(self.seconds, 1), **values}
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        click.echo("  ".join(f"{name} {_short(value)}" for name, value in line.items()))

    def report(self) -> None:
        """Log the losses since the last report, and the pace."""
        pace = self.stage.n_batch / statistics.median(self.sums.pop("step_s"))  # others may halt this process
        means = {name: float(torch.stack(values).mean()) for name, values in self.sums.items()}
        self.log(pictures_per_s=round(pace, 1), **{name: round(mean, 4) for name, mean in means.items()})
        self.sums.clear()


def checkpoint_of(folder: Path, stage: str) -> Path:
    """The checkpoint of a run's stage."""
    return folder / stage / CHECKPOINT


def borrow_tower(plan: Plan, folder: Path, lender: Path) -> None:
    """Begin a run with the tower of another one, which may have been shown to the decoder in other languages."""
    path = checkpoint_of(lender, TOWER)
    state = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else {"is_done": False}
    if not state["is_done"] or Plan.from_dict(state["plan"]).sizes != plan.sizes:
        raise click.ClickException(f"{lender}: expected a run with a trained tower of the same sizes, got another")
    _write(checkpoint_of(folder, TOWER), {**state, "plan": plan.to_dict()})


def _write(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "{" + " ".join(f"{key} {_short(part)}" for key, part in value.items()) + "}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
