"""The stages of the training, and the learning rate in each.

PALO starts from a CLIP that sees and a LLaMA that reads, leaves CLIP as it is, and trains in two stages: the projector,
then projector and LLaMA. Nano has neither, so two stages come before them: the tower learns what each patch shows, and
the decoder answers about scenes that it is told patch by patch.
"""

from __future__ import annotations

from dataclasses import dataclass

TOWER, DECODER, PROJECTOR, ALL = "tower", "decoder", "projector", "all"
STAGES = (TOWER, DECODER, PROJECTOR, ALL)
# What each stage goes on from.
STARTS_FROM: dict[str, tuple[str, ...]] = {TOWER: (), DECODER: (), PROJECTOR: (TOWER, DECODER), ALL: (PROJECTOR,)}


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: one of `STAGES`.
        n_steps: in all.
        n_batch: pictures in a step, over all processes.
        learning_rate: while it is constant; it rises over the first `n_rise` steps and falls to 0 over the last share
            `decay`.
        curriculum: over this share of the steps the pictures grow from easy ones to all that there are.
        minutes: share of a run whose minutes are given.
        n_text: tokens of text about each picture.
    """

    name: str
    n_steps: int
    n_batch: int
    learning_rate: float
    decay: float
    curriculum: float
    minutes: float
    n_rise: int = 50
    n_text: int = 284  # twelve questions

    def rate(self, step: int, progress: float) -> float:
        """The learning rate; `progress` of the stage is by steps or by the clock."""
        rise = min(1.0, (step + 1) / self.n_rise)
        return self.learning_rate * rise * min(1.0, max(0.0, (1.0 - progress) / self.decay))


# What two cores do in an evening.
TWO_CORES = (
    Stage(TOWER, n_steps=3900, n_batch=48, learning_rate=0.02, decay=0.5, curriculum=0.13, minutes=0.49),
    Stage(DECODER, n_steps=1400, n_batch=16, learning_rate=0.02, decay=0.5, curriculum=0.0, minutes=0.21),
    # More pictures and less text: most of what the projector learns is what the told scenes look like.
    Stage(PROJECTOR, 300, n_batch=16, learning_rate=0.02, decay=0.5, curriculum=0.0, minutes=0.02, n_text=100),
    Stage(ALL, n_steps=900, n_batch=32, learning_rate=0.008, decay=0.9, curriculum=0.0, minutes=0.28, n_rise=20),
)

# What one GPU does in eight minutes, when sixteen cores draw for it.
ONE_GPU = (
    Stage(TOWER, n_steps=3000, n_batch=256, learning_rate=0.02, decay=0.5, curriculum=0.13, minutes=0.43),
    Stage(DECODER, n_steps=1800, n_batch=128, learning_rate=0.02, decay=0.5, curriculum=0.0, minutes=0.18),
    Stage(PROJECTOR, 150, n_batch=128, learning_rate=0.02, decay=0.5, curriculum=0.0, minutes=0.02, n_text=100),
    Stage(ALL, n_steps=3000, n_batch=128, learning_rate=0.01, decay=0.9, curriculum=0.0, minutes=0.37),
)

PLANS = {"cpu": TWO_CORES, "cuda": ONE_GPU}
