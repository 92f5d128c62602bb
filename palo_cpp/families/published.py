"""What is known of a model that its authors published, before a byte of it is here: sizes, scores, licences.

Each family has a table of its own, `families/NAME/published.py`; `models.names` joins them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from palo_cpp.llm.text_sizes import TextSizes


@dataclass(frozen=True)
class License:
    """Terms of one thing that a model is made of.

    Attributes:
        part: what they hold for: a repository of the hub.
        name: of the terms, for people.
        url: where they can be read.
    """

    part: str
    name: str
    url: str


@dataclass(frozen=True)
class Evaluation:
    """How scores came about.

    Attributes:
        benchmark: questions and images.
        judge: who gave the points.
        source: where they were published.
    """

    benchmark: str
    judge: str
    source: str


@dataclass(frozen=True)
class VisionCost:
    """What vision tower and projector cost.

    Attributes:
        n_weights: numbers in the mmproj file.
        n_products: multiplications with an addition each, for one image.
        n_image_tokens: embeddings of one image.
    """

    n_weights: int
    n_products: int
    n_image_tokens: int


@dataclass(frozen=True)
class PublishedModel:
    """A model that its authors published as a checkpoint.

    Attributes:
        family: it belongs to.
        title: its name, as its authors write it.
        checkpoint: its repository.
        vision_tower: repository of the vision tower, which the checkpoint may lack.
        text: sizes of the language model.
        vision: what an image costs.
        n_prompt_tokens: of a prompt with a short question, but for the image.
        tokens_per_word: by language.
        scores: points of 100, by language.
        evaluation: how they came about.
        licenses: of the model and of what it was made from, the model first.
        variant: which of the repository's checkpoints it is; "" is the main one.
        weights: the file of its weights, as a pattern of names; "" where the names of the repository say it.
        n_beams: paths that its answers are searched on where nobody asks for one.
    """

    family: str
    title: str
    checkpoint: str
    vision_tower: str
    text: TextSizes
    vision: VisionCost
    n_prompt_tokens: int
    tokens_per_word: Mapping[str, float]
    scores: Mapping[str, float]
    evaluation: Evaluation
    licenses: tuple[License, ...]
    n_beams: int = 1
    variant: str = ""
    weights: str = ""

    def score(self, language: str | None = None) -> float:
        """Points of 100 in a language; None is the average over all of its languages."""
        return _value(self.scores, language)

    def n_tokens_per_word(self, language: str | None = None) -> float:
        """Tokens of a word in a language; None is the average over all of its languages."""
        return _value(self.tokens_per_word, language)


def _value(by_language: Mapping[str, float], language: str | None) -> float:
    if language is None:
        return sum(by_language.values()) / len(by_language)
    return by_language[language]
