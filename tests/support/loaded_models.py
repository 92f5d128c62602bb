"""A `LoadedModel` around a language model and images that are made up."""

from __future__ import annotations

from typing import Any

from made_up_images import Images

from palo_cpp.decoding.token_constraint import TokenConstraint
from palo_cpp.families.registry import PALO
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.llm.kv_cache import KvCache
from palo_cpp.llm.language_model import LanguageModel
from palo_cpp.models.files import ModelFiles
from palo_cpp.models.loaded_model import LoadedModel, PrefixModel


class FixedConstraints:
    """Stands where `LanguageConstraints` stands: the same constraints whatever the language.

    Args:
        attempts: constraints of each attempt at an answer, in order; later ones have none.
    """

    def __init__(self, *attempts: list[TokenConstraint]) -> None:
        self._left = list(attempts)

    def of(self, _language: str | None, _mode: str) -> tuple[TokenConstraint, ...]:
        return tuple(self._left.pop(0)) if self._left else ()


def loaded_model(language_model: LanguageModel, images: Images) -> LoadedModel:
    """PALO's family without masks, and with images instead of a vision encoder."""
    files = ModelFiles(PALO, read_header(language_model.path), None)
    encoder: Any = images  # never asked
    embedder: Any = images
    prefix = PrefixModel(language_model, KvCache(language_model))
    loaded = LoadedModel(PALO, files, language_model, encoder, embedder, prefix)
    constraints: Any = FixedConstraints()
    loaded.constraints = constraints
    return loaded
