"""The least Nano and the least plan to train it; needs torch."""

from nano.model import Sizes
from nano.stages import STAGES, Stage
from nano.training_run import Plan

# Every part is there: a 4 x 4 grid, heads of 64.
TOY = Sizes(
    n_embd=64, n_ff=64, n_layer=2, n_head=1, image_size=56, vision_n_embd=64, vision_n_ff=64, vision_n_layer=3,
    vision_n_head=1,
)  # fmt: skip


def toy_plan(n_steps=6, **changes):
    stages = tuple(Stage(name, n_steps, 2, 0.01, 0.4, 0.2, 1.0, n_text=180) for name in STAGES)
    return Plan(TOY, **{"stages": stages, **changes})
