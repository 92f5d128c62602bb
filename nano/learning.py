"""What one step of training does: the losses of each stage, and how right the answers are."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nano.asking import Exchange
from nano.data import NO_LABEL, Batch
from nano.model import Nano, Sizes
from nano.muon import Muon
from nano.scenes import NO_DRAWING
from nano.stages import ALL, DECODER, PROJECTOR, TOWER
from nano.things import COLOURS

# Share of each loss in a stage's sum.
_WEIGHTS = {
    TOWER: {"patches": 1.0},
    DECODER: {"answers": 1.0},
    PROJECTOR: {"answers": 1.0, "told": 1.0},
    ALL: {"answers": 1.0, "patches": 0.3},
}


class ToldScene(nn.Module):
    """Image embeddings of a scene that the decoder is told instead of shown: sums of what each patch shows.

    The decoder learns to answer from these; then the projector learns to make the like of the tower's features.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.kind = nn.Embedding(1 + NO_DRAWING, sizes.n_embd)
        self.colour = nn.Embedding(1 + len(COLOURS), sizes.n_embd)
        self.place = nn.Parameter(torch.randn(sizes.n_image_tokens, sizes.n_embd) * 0.02)
        self.norm = nn.LayerNorm(sizes.n_embd)
        self.n_side, self.n_image_tokens = sizes.n_side, sizes.n_image_tokens

    def forward(self, kinds: Tensor, colours: Tensor) -> Tensor:
        """kinds, colours [n_batch, n_patches] -> [n_batch, n_image_tokens, n_embd]."""
        patches = self.kind(kinds) + self.colour(colours)
        if self.n_image_tokens < self.n_side**2:  # LDP: one row for 2 x 2 patches
            grid = patches.transpose(1, 2).unflatten(2, (self.n_side, self.n_side))
            patches = F.avg_pool2d(grid, 2, ceil_mode=True).flatten(2).transpose(1, 2)
        out: Tensor = self.norm(patches + self.place)
        return out


class Learner(nn.Module):
    """The model with what teaches it and is not exported: heads on the tower, and told scenes."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.nano = Nano(sizes)
        self.told = ToldScene(sizes)
        self.kind_head = nn.Linear(sizes.vision_n_embd, 1 + NO_DRAWING)
        self.colour_head = nn.Linear(sizes.vision_n_embd, 1 + len(COLOURS))
        self.place_head = nn.Linear(sizes.vision_n_embd, 3)

    def forward(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """The losses of one batch: "patches" where the tower learns, "answers", "told" for the projector."""
        losses, images = dict[str, Tensor](), None
        if stage == DECODER and not batch.is_text:
            images = self.told(batch.kinds, batch.colours)
        elif not batch.is_text:
            hidden = self.nano.see(batch.normalised())
            if stage != PROJECTOR:
                losses["patches"] = self._patch_loss(hidden, batch)
            if stage != TOWER:
                images = self.nano.project(hidden.detach() if stage == PROJECTOR else hidden)
            if stage == PROJECTOR:
                losses["told"] = F.mse_loss(images.float(), self.told(batch.kinds, batch.colours).float())
        if batch.tokens.shape[1]:
            logits, labels = answer_logits(self.nano, batch, images)
            losses["answers"] = F.cross_entropy(logits.float(), labels)
        return losses

    def _patch_loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Kind and colour of what a patch shows, and where its thing lies: patches of one thing find each other."""
        kinds, colours = (
            F.cross_entropy(head(hidden).float().flatten(0, 1), labels.flatten(), _weights(head))
            for head, labels in ((self.kind_head, batch.kinds), (self.colour_head, batch.colours))
        )
        shown = batch.colours > 0
        places = F.smooth_l1_loss(self.place_head(hidden).float()[shown], batch.places[shown], beta=0.1)
        return kinds + colours + 2.0 * places

    def part(self, stage: str) -> dict[str, nn.Parameter]:
        """What a stage trains, by name."""
        return {name: p for name, p in self.named_parameters() if _belongs(name, stage)}


def _belongs(name: str, stage: str) -> bool:
    is_tower = "vision_tower" in name or name.startswith(("kind_head", "colour_head", "place_head"))
    is_projector = "mm_projector" in name
    return {
        TOWER: is_tower,
        DECODER: not is_tower and not is_projector,
        PROJECTOR: is_projector,
        ALL: not name.startswith("told"),
    }[stage]


def _weights(head: nn.Linear) -> Tensor:
    """Most patches show the background: they count a tenth, or a tower that sees nothing else looks good."""
    weights = torch.ones(head.out_features, device=head.weight.device)
    weights[0] = 0.1
    if head.out_features > NO_DRAWING:
        weights[NO_DRAWING] = 0.1
    return weights


def answer_logits(nano: Nano, batch: Batch, images: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits [n, n_vocab] and labels [n] of all tokens of the answers."""
    hidden = nano.read(batch.tokens, batch.positions, batch.segments, images, batch.start)
    said = batch.labels != NO_LABEL
    return nano.lm_head(hidden[said]), batch.labels[said]


def make_optimizer(learner: Learner, stage: str) -> Muon:
    """Muon for the matrices of the layers that a stage trains, AdamW for what else it trains."""
    part = learner.part(stage)
    matrices = {name for name, p in part.items() if p.dim() == 2 and (".layers." in name or ".mlp." in name)}
    return Muon((part[name] for name in part if name in matrices), (part[n] for n in part if n not in matrices))


def backward(learner: Learner, batch: Batch, stage: str) -> dict[str, Tensor]:
    """Set the gradients of what a stage trains; returns the losses."""
    part = learner.part(stage)
    for name, parameter in learner.named_parameters():
        parameter.requires_grad_(name in part)
        parameter.grad = None
    # bf16 only on a GPU: a CPU without it emulates it (Zen 3: the tower 1.5 instead of 30 pictures/s).
    with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=batch.tokens.is_cuda):
        losses: dict[str, Tensor] = learner(batch, stage)
    loss = sum((_WEIGHTS[stage][name] * value for name, value in losses.items()), start=torch.zeros(()))
    if loss.requires_grad:  # text teaches the projector nothing
        loss.backward()  # type: ignore[no-untyped-call]
    return {name: value.detach() for name, value in losses.items()}


def train_step(learner: Learner, optimizer: Muon, batch: Batch, stage: str, rate: float) -> dict[str, Tensor]:
    """One step on one batch; returns the losses."""
    losses = backward(learner, batch, stage)
    apply_gradients(optimizer, learner.parameters(), rate)
    return losses


def apply_gradients(optimizer: Muon, parameters: Iterable[nn.Parameter], rate: float) -> None:
    """Clip and step."""
    nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], 1.0)
    optimizer.set_rate(rate)
    optimizer.step()


@torch.no_grad()
def exact_answers(nano: Nano, batch: Batch, images: Tensor | None = None) -> list[tuple[Exchange, bool]]:
    """Whether each answer of a batch is exactly right.

    Each token is predicted behind the right ones. That is greedy decoding's own score: it says the right answer exactly
    when each of these predictions is right.

    Args:
        nano: the model.
        batch: with its `answers`.
        images: image embeddings to take instead of the pictures' own.
    """
    if images is None and not batch.is_text:
        images = nano.project(nano.see(batch.normalised()))
    logits, labels = answer_logits(nano, batch, images)
    right = torch.ones(batch.labels.shape, dtype=torch.bool, device=labels.device)
    right[batch.labels != NO_LABEL] = logits.argmax(-1) == labels
    right = right.cpu()
    return [(a.exchange, bool(right[a.row, a.begin : a.end].all())) for a in batch.answers]


@torch.no_grad()
def things_seen(learner: Learner, batch: Batch) -> tuple[float, float]:
    """Shares of the patches that show a thing whose kind, and whose colour, the tower names."""
    hidden = learner.nano.see(batch.normalised())
    shown = batch.colours > 0
    kinds, colours = (
        (head(hidden).argmax(-1)[shown] == labels[shown]).float().mean().item()
        for head, labels in ((learner.kind_head, batch.kinds), (learner.colour_head, batch.colours))
    )
    return kinds, colours
