"""What one step of training does: the stages, the losses, the learning rate, and how right the answers are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nano.asking import Exchange
from nano.data import NO_LABEL, Batch
from nano.model import Nano, Sizes
from nano.things import COLOURS, KINDS

WARM_UP, PROJECTOR, ALL = "warm-up", "projector", "all"


@dataclass(frozen=True)
class Schedule:
    """Which stage and what learning rate each step has.

    PALO starts from a CLIP that sees and a LLaMA that reads, then trains the projector alone, then everything. Nano
    starts from nothing, so the first stage stands for both: the tower learns what each patch shows, the decoder answers
    questions about pictures described in words.

    Attributes:
        n_steps: in all.
        warm_up, projector: shares of the first two stages.
        learning_rate: while it is constant; it rises at first and falls to 0 over the last `decay` of all steps.
    """

    n_steps: int
    warm_up: float = 0.15
    projector: float = 0.02
    learning_rate: float = 1e-3
    decay: float = 0.35
    n_rise: int = 150

    def stage(self, step: int) -> str:
        """The stage of a step."""
        if step < self.warm_up * self.n_steps:
            return WARM_UP
        return PROJECTOR if step < (self.warm_up + self.projector) * self.n_steps else ALL

    def rate(self, step: int, progress: float) -> float:
        """The learning rate; `progress` of the whole run is by steps or by the clock."""
        rise = min(1.0, (step + 1) / self.n_rise)
        return self.learning_rate * rise * min(1.0, max(0.0, (1.0 - progress) / self.decay))


class Learner(nn.Module):
    """The model with the two heads that teach its tower; they are not exported."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.nano = Nano(sizes)
        self.kind_head = nn.Linear(sizes.vision_n_embd, 1 + len(KINDS))
        self.colour_head = nn.Linear(sizes.vision_n_embd, 1 + len(COLOURS))

    def forward(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """The losses of one batch: "answers", and "patches" where the tower learns."""
        losses, images = {}, None
        if stage == WARM_UP or not batch.is_text:
            hidden = self.nano.see(batch.normalised())
            if stage == PROJECTOR:
                hidden = hidden.detach()
            else:
                losses["patches"] = self._patch_loss(hidden, batch)
            images = None if batch.is_text else self.nano.project(hidden)
        logits, labels = answer_logits(self.nano, batch, images)
        losses["answers"] = F.cross_entropy(logits.float(), labels)
        return losses

    def _patch_loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        return sum(
            (
                F.cross_entropy(head(hidden).float().flatten(0, 1), labels.flatten(), _weights(head))
                for head, labels in ((self.kind_head, batch.kinds), (self.colour_head, batch.colours))
            ),
            start=hidden.new_zeros((), dtype=torch.float32),
        )

    def learning_parameters(self, stage: str) -> Iterable[nn.Parameter]:
        """What a stage trains."""
        return self.nano.model["mm_projector"].parameters() if stage == PROJECTOR else self.parameters()


def _weights(head: nn.Linear) -> Tensor:
    """Nine of ten patches show the background: it counts a tenth, or a tower that sees nothing else looks good."""
    weights = torch.ones(head.out_features, device=head.weight.device)
    weights[0] = 0.1
    return weights


def answer_logits(nano: Nano, batch: Batch, images: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits [n, n_vocab] and labels [n] of all tokens of the answers."""
    hidden = nano.read(batch.tokens, batch.positions, batch.segments, images, batch.start)
    said = batch.labels != NO_LABEL
    return nano.lm_head(hidden[said]), batch.labels[said]


def make_optimizer(learner: Learner) -> torch.optim.AdamW:
    """AdamW; norms, biases and single vectors do not decay."""
    matrices = [p for p in learner.parameters() if p.dim() >= 2]
    others = [p for p in learner.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), eps=1e-8, fused=True)


def train_step(
    learner: Learner, optimizer: torch.optim.Optimizer, batch: Batch, stage: str, rate: float
) -> dict[str, Tensor]:
    """One step; returns the losses."""
    learns = {id(p) for p in learner.learning_parameters(stage)}
    for parameter in learner.parameters():
        parameter.requires_grad_(id(parameter) in learns)
    with torch.autocast(batch.tokens.device.type, torch.bfloat16):
        losses = learner(batch, stage)
        loss = losses["answers"] + (1.0 if stage == WARM_UP else 0.3) * losses.get("patches", 0.0)
    optimizer.zero_grad(set_to_none=True)
    if not loss.requires_grad:  # text teaches the projector nothing
        return losses
    loss.backward()
    nn.utils.clip_grad_norm_((p for p in learner.parameters() if p.grad is not None), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return {name: value.detach() for name, value in losses.items()}


@torch.no_grad()
def exact_answers(nano: Nano, batch: Batch, *, autocast: bool = True) -> list[tuple[Exchange, bool]]:
    """Whether each answer of a batch is exactly right.

    Each token is predicted behind the right ones. That is greedy decoding's own score: it says the right answer exactly
    when each of these predictions is right.
    """
    nano.eval()
    with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=autocast):
        images = None if batch.is_text else nano.project(nano.see(batch.normalised()))
        logits, labels = answer_logits(nano, batch, images)
    right = torch.ones(batch.labels.shape, dtype=torch.bool, device=labels.device)
    right[batch.labels != NO_LABEL] = logits.argmax(-1) == labels
    right = right.cpu()
    nano.train()
    return [(a.exchange, bool(right[a.row, a.begin : a.end].all())) for a in batch.answers]
