"""Batches for training: pictures as the tower sees them, and many conversations about each packed into one sequence.

A batch is a function of its number, so any number of workers makes the same ones, and a resumed run goes on with the
next.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nano.conversations import CODES, Picture, conversation, make_picture, reading
from nano.exchanges import Exchange
from nano.labels import NUMBER, PatchLabels, patch_labels
from nano.model import Sizes
from nano.tokenizer import NanoTokenizer
from palo_cpp.families.palo.prompt import prompt_segments
from palo_cpp.segments import ImageSegment, Turn
from palo_cpp.vision.image import square_pixels

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
NO_LABEL = -100
_REACH = (0.6, 0.95)  # of a thing's radius: the decoder is told things that cover more or fewer patches


@dataclass(frozen=True)
class Answered:
    """Where in a batch an answer is: its labels are `labels[row, begin:end]`, `</s>` included."""

    row: int
    begin: int
    end: int
    exchange: Exchange


@dataclass
class Batch:
    """What one step computes on.

    Attributes:
        pixels: [n_batch, S, S, 3] uint8; none where the recipe does not draw.
        fields, places: what each patch shows, [n_batch, len(FIELDS), n_patches] and [n_batch, n_patches, 3], see
            `PatchLabels`.
        tokens, positions, segments: [n_batch, n_tokens], see `Nano.read`; 0 tokens where the recipe does not talk.
        labels: [n_batch, n_tokens], the next token where it belongs to an answer, else NO_LABEL.
        start: where the image begins in the sequences.
        is_text: nobody sees the image.
        answers: where each answer is; only in batches for evaluation.
        meanings: [n_answers, len(ASKED) + len(FOUND)], see `Meaning`.
        asked_at: [n_answers, 2]: row and column of each question's last token.
    """

    pixels: Tensor
    fields: Tensor
    places: Tensor
    tokens: Tensor
    positions: Tensor
    segments: Tensor
    labels: Tensor
    start: int
    is_text: bool
    answers: list[Answered]
    meanings: Tensor
    asked_at: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in self._tensors().items()})

    def pin_memory(self) -> Batch:
        """The same batch in memory that a GPU copies from by itself."""
        return replace(self, **{name: value.pin_memory() for name, value in self._tensors().items()})

    def without_answers(self) -> Batch:
        """The same batch for training: thousands of small objects would keep a process that feeds a GPU busy."""
        return replace(self, answers=[])

    def field(self, name: str) -> Tensor:
        """One field of what the patches show, [n_batch, n_patches]."""
        return self.fields[:, NUMBER[name]]

    def _tensors(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if torch.is_tensor(value)}

    def normalized(self) -> Tensor:
        """Pixels as the tower takes them, float32 [n_batch, 3, S, S]."""
        mean, std = (
            torch.tensor(values, device=self.pixels.device)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD)
        )
        return (self.pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


@dataclass(frozen=True)
class Recipe:
    """How batches are made.

    Attributes:
        n_batch: pictures.
        n_tokens: of each sequence.
        draws: whether the pictures are drawn; without, the decoder is told what each patch shows.
        talks: whether there are conversations.
        n_curriculum: over that many batches the scenes grow from easy to all.
        image_languages: languages of the conversations about pictures; with fewer than all ten, every second batch is
            text in all ten, about pictures that are described in words.
    """

    n_batch: int
    n_tokens: int
    draws: bool = True
    talks: bool = True
    n_curriculum: int = 0
    image_languages: tuple[str, ...] = CODES

    def is_text(self, number: int) -> bool:
        """Whether the conversations of this batch are about words."""
        return self.talks and len(self.image_languages) < len(CODES) and number % 2 == 1


class Layout:
    """Packs conversations into sequences of one length, by the prompt that palo_cpp uses."""

    def __init__(self, tokenizer: NanoTokenizer, sizes: Sizes, n_tokens: int) -> None:
        self.tokenizer, self.sizes, self.n_tokens = tokenizer, sizes, n_tokens
        self._image = ImageSegment("", sizes.n_image_tokens)
        self.prefix = self._rows([Turn("?")])[0].tolist()
        self.start = len(self.prefix)

    def _rows(self, turns: Sequence[Turn]) -> list[np.ndarray]:
        first, *rest = turns
        before, _, after = prompt_segments(self.tokenizer, [replace(first, images=(self._image,)), *rest])
        return [np.array(part.tokens, dtype=np.int64) for part in (before, after)]  # type: ignore[union-attr]

    def encode(self, turns: Sequence[Exchange]) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens of a conversation from the image on, and where each answer begins and ends (`</s>` included)."""
        said: list[Turn] = []
        spans = []
        tokens: list[int] = []
        for turn in turns:
            answer = tuple(self.tokenizer.tokenize(turn.answer))
            tokens = self._rows([*said, Turn(turn.question)])[1].tolist()
            spans.append((len(tokens), len(tokens) + len(answer) + 1))
            said.append(Turn(turn.question, turn.answer, answer))
            tokens = [*tokens, *answer, self.tokenizer.eos_id]
        return tokens, spans

    def pack(self, conversations: Iterable[list[Exchange]], row: int) -> tuple[np.ndarray, list[Answered]]:
        """One sequence [4, n_tokens]: tokens, positions, segments, labels; ends before what does not fit."""
        first = self.start + self.sizes.n_image_tokens
        out = np.zeros((4, self.n_tokens), dtype=np.int64)
        out[0, : self.start], out[1, :first] = self.prefix, np.arange(first)
        out[2, first:], out[3] = -1, NO_LABEL
        answers, at = list[Answered](), first
        for segment, turns in enumerate(conversations, start=1):
            tokens, spans = self.encode(turns)
            end = at + len(tokens)
            if end > self.n_tokens:
                break
            out[0, at:end], out[1, at:end], out[2, at:end] = tokens, np.arange(first, first + len(tokens)), segment
            for turn, (begin, stop) in zip(turns, spans, strict=True):
                out[3, at + begin - 1 : at + stop - 1] = tokens[begin:stop]  # a label is the token that comes next
                answers.append(Answered(row, at + begin - 1, at + stop - 1, turn))
            at = end
        return out, answers


class Batches(torch.utils.data.Dataset[Batch]):
    """Batches by number, for training or, from seeds of their own, for evaluation."""

    def __init__(self, tokenizer: NanoTokenizer, sizes: Sizes, recipe: Recipe, n_batches: int, first_seed: int) -> None:
        self.layout = Layout(tokenizer, sizes, recipe.n_tokens)
        self.sizes, self.recipe, self.n_batches, self.first_seed = sizes, recipe, n_batches, first_seed

    def __len__(self) -> int:
        return self.n_batches

    def __getitem__(self, number: int) -> Batch:
        recipe, is_text = self.recipe, self.recipe.is_text(number)
        difficulty = min(1.0, 0.2 + number / recipe.n_curriculum) if recipe.n_curriculum else 1.0
        first = self.first_seed + number * recipe.n_batch
        pictures = [make_picture(first + i, difficulty=difficulty) for i in range(recipe.n_batch)]
        talk = reading if is_text else conversation
        languages = CODES if is_text else recipe.image_languages
        talks = [_endless(talk, picture, languages) for picture in pictures] if recipe.talks else []
        return self.assemble(pictures, talks, is_text=is_text)

    def assemble(
        self, pictures: Sequence[Picture], talks: Sequence[Iterable[list[Exchange]]], *, is_text: bool = False
    ) -> Batch:
        """Draw pictures and pack the conversations about them."""
        rows, answers = [], list[Answered]()
        for row, conversations in enumerate(talks):
            packed, spans = self.layout.pack(conversations, row)
            rows.append(packed)
            answers += spans
        labels = self._labels(pictures)
        tokens, positions, segments, targets = torch.from_numpy(
            np.stack(rows, axis=1) if rows else np.zeros((4, len(pictures), 0), dtype=np.int64)
        )
        return Batch(
            pixels=self._pixels(pictures),
            fields=torch.from_numpy(np.stack([each.fields for each in labels])),
            places=torch.from_numpy(np.stack([each.places for each in labels])),
            tokens=tokens,
            positions=positions,
            segments=segments,
            labels=targets,
            start=self.layout.start,
            is_text=is_text,
            answers=answers,
            meanings=torch.tensor([a.exchange.meaning.asked() + a.exchange.meaning.answered() for a in answers]),
            asked_at=torch.tensor([(a.row, a.begin) for a in answers]),
        )

    def _pixels(self, pictures: Sequence[Picture]) -> Tensor:
        size = self.sizes.image_size
        if not self.recipe.draws:
            return torch.zeros((0, size, size, 3), dtype=torch.uint8)
        drawn = [square_pixels(p.render(), image_size=size, mean=IMAGE_MEAN) for p in pictures]
        return torch.from_numpy(np.stack(drawn))

    def _labels(self, pictures: Sequence[Picture]) -> list[PatchLabels]:
        reaches = [0.75 if self.recipe.draws else random.Random(p.seed * 4 + 2).uniform(*_REACH) for p in pictures]
        return [patch_labels(p.scene, self.sizes.n_side, reach=r) for p, r in zip(pictures, reaches, strict=True)]


def _endless(
    talk: Callable[[Picture, random.Random, Sequence[str]], list[Exchange]], picture: Picture, languages: Sequence[str]
) -> Iterator[list[Exchange]]:
    """Conversations about a picture, as many as one cares to take."""
    rng = random.Random(picture.seed * 4)
    while True:
        yield talk(picture, rng, languages)
