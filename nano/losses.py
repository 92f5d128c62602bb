"""What one step of training does: the losses of each stage, and how right the answers are."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nano.data import NO_LABEL, Batch
from nano.exchanges import Exchange
from nano.labels import COLOUR, FIELDS, KIND, NO_DRAWING, NUMBER
from nano.meaning import ASKED, FOUND, NOT_SAID
from nano.model import Nano, Sizes
from nano.muon import Muon
from nano.processes import ALONE, Team
from nano.stages import ALL, DECODER, PROJECTOR, TOWER

# Share of each loss in a stage's sum.
_WEIGHTS = {
    TOWER: {"patches": 1.0},
    DECODER: {"answers": 1.0, "meanings": 0.3},
    PROJECTOR: {"answers": 1.0, "told": 1.0},
    ALL: {"answers": 1.0, "meanings": 0.1},
}

_AMONG = 8.0  # of the mean over what is true of a thing among the others, in the tower's loss
# How many layers of the decoder are left where a question's last token knows what is asked, and what is true.
_LEFT_WHEN_ASKED, _LEFT_WHEN_FOUND = 2, 1


class ToldScene(nn.Module):
    """Image embeddings of a scene that the decoder is told instead of shown: sums of what each patch shows.

    The decoder learns to answer from these; then the projector learns to make the like of the tower's features.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.fields = nn.ModuleList(nn.Embedding(n, sizes.n_embd) for n in FIELDS.values())
        self.place = nn.Parameter(torch.randn(sizes.n_image_tokens, sizes.n_embd) * 0.02)
        self.norm = nn.LayerNorm(sizes.n_embd)
        self.n_side, self.n_image_tokens = sizes.n_side, sizes.n_image_tokens

    def forward(self, fields: Tensor) -> Tensor:
        """fields [n_batch, len(FIELDS), n_patches] -> [n_batch, n_image_tokens, n_embd]."""
        kind, *others = (embed(fields[:, i]) for i, embed in enumerate(self.fields))
        is_thing = fields[:, NUMBER[COLOUR]] > 0  # elsewhere there is no more to say
        patches = kind + sum(others) * is_thing[..., None]
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
        self.field_head = nn.Linear(sizes.vision_n_embd, sum(FIELDS.values()))
        self.place_head = nn.Linear(sizes.vision_n_embd, 3)
        self.asked_head = nn.Linear(sizes.n_embd, sum(ASKED.values()))
        self.found_head = nn.Linear(sizes.n_embd, sum(FOUND.values()))

    def forward(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        """The losses of one batch: "patches" for the tower, "answers" and "meanings", "told" for the projector."""
        losses, images = dict[str, Tensor](), None
        if stage == DECODER and not batch.is_text:
            images = self.told(batch.fields)
        elif not batch.is_text:
            hidden = self.nano.see(batch.normalized())
            if stage == TOWER:
                losses["patches"] = self._patch_loss(hidden, batch)
            else:
                images = self.nano.project(hidden)
            if stage == PROJECTOR:
                losses["told"] = F.mse_loss(images.float(), self.told(batch.fields).float())
        if batch.tokens.shape[1]:
            layers = read(self.nano, batch, images)
            logits, labels = answer_logits(self.nano, batch, layers)
            losses["answers"] = F.cross_entropy(logits.float(), labels)
            if stage != PROJECTOR:
                losses["meanings"] = self._meaning_loss(layers, batch)
        return losses

    def _meaning_loss(self, layers: list[Tensor], batch: Batch) -> Tensor:
        """What a question asks, then what is true, predicted from its last token: one lesson for all ten languages."""
        rows, columns = batch.asked_at.T
        logits = list[Tensor]()
        lessons = ((_LEFT_WHEN_ASKED, self.asked_head, ASKED), (_LEFT_WHEN_FOUND, self.found_head, FOUND))
        for n_left, head, sizes in lessons:
            hidden = layers[max(0, len(layers) - 1 - n_left)][rows, columns].float()
            logits += head(F.rms_norm(hidden, hidden.shape[-1:])).float().split(tuple(sizes.values()), dim=-1)
        losses = []
        for each, labels in zip(logits, batch.meanings.T, strict=True):
            n = (labels != NOT_SAID).sum().clamp(min=1)
            losses.append(F.cross_entropy(each, labels, ignore_index=NOT_SAID, reduction="sum") / n)
        return torch.stack(losses).sum()

    def fields_seen(self, hidden: Tensor) -> tuple[Tensor, ...]:
        """hidden [n_batch, n_patches, vision_n_embd] -> logits [n_batch, n_patches, n_classes] of each of `FIELDS`."""
        return self.field_head(hidden).float().split(tuple(FIELDS.values()), dim=-1)

    def _patch_loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Kind and colour of what a patch shows, where its thing lies, and what is true of it among the others."""
        own, among = dict[str, Tensor](), list[Tensor]()
        shown = batch.field(COLOUR) > 0
        for name, logits in zip(FIELDS, self.fields_seen(hidden), strict=True):
            labels = batch.field(name)
            if name in (KIND, COLOUR):
                own[name] = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), _weights(name, logits))
            else:
                among.append(F.cross_entropy(logits[shown], labels[shown]))
        places = F.smooth_l1_loss(self.place_head(hidden).float()[shown], batch.places[shown], beta=0.1)
        return own[KIND] + own[COLOUR] + 2.0 * places + _AMONG * torch.stack(among).mean()

    def part(self, stage: str) -> dict[str, nn.Parameter]:
        """What a stage trains, by name."""
        return {name: p for name, p in self.named_parameters() if _belongs(name, stage)}


def _belongs(name: str, stage: str) -> bool:
    is_tower = "vision_tower" in name or name.startswith(("field_head", "place_head"))
    is_projector = "mm_projector" in name
    return {
        TOWER: is_tower,
        DECODER: not is_tower and not is_projector,
        PROJECTOR: is_projector,
        ALL: not is_tower and not name.startswith("told"),
    }[stage]


def _weights(name: str, logits: Tensor) -> Tensor:
    """Most patches show the background: they count a tenth, or a tower that sees nothing else looks good."""
    weights = torch.ones(logits.shape[-1], device=logits.device)
    weights[0] = 0.1
    if name == KIND:
        weights[NO_DRAWING] = 0.1
    return weights


def read(nano: Nano, batch: Batch, images: Tensor | None) -> list[Tensor]:
    """What each layer of the decoder produces for a batch."""
    return nano.layers(batch.tokens, batch.positions, batch.segments, images, batch.start)


def answer_logits(nano: Nano, batch: Batch, layers: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Logits [n, n_vocab] and labels [n] of all tokens of the answers."""
    said = batch.labels != NO_LABEL
    return nano.say(layers[-1][said]), batch.labels[said]


def make_optimizer(learner: Learner, stage: str, team: Team = ALONE) -> Muon:
    """Muon for the matrices of the layers that a stage trains, AdamW for what else it trains."""
    part = learner.part(stage)
    matrices = {name for name, p in part.items() if p.dim() == 2 and (".layers." in name or ".mlp." in name)}
    return Muon((part[name] for name in part if name in matrices), (part[n] for n in part if n not in matrices), team)


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

    Each token is predicted after the right ones. That is greedy decoding's own score: it says the right answer exactly
    when each of these predictions is right.

    Args:
        nano: the model.
        batch: with its `answers`.
        images: image embeddings to take instead of the pictures' own.
    """
    if images is None and not batch.is_text:
        images = nano.project(nano.see(batch.normalized()))
    logits, labels = answer_logits(nano, batch, read(nano, batch, images))
    right = torch.ones(batch.labels.shape, dtype=torch.bool, device=labels.device)
    right[batch.labels != NO_LABEL] = logits.argmax(-1) == labels
    right = right.cpu()
    return [(a.exchange, bool(right[a.row, a.begin : a.end].all())) for a in batch.answers]


@torch.no_grad()
def fields_seen(learner: Learner, batch: Batch) -> dict[str, float]:
    """The share of the patches that show a thing for which the tower says each field right."""
    logits = learner.fields_seen(learner.nano.see(batch.normalized()))
    shown = batch.field(COLOUR) > 0
    return {
        name: (each.argmax(-1)[shown] == batch.field(name)[shown]).float().mean().item()
        for name, each in zip(FIELDS, logits, strict=True)
    }
