"""What distinguishes a model's keys and values from those of every other."""

from __future__ import annotations

from dataclasses import dataclass

from palo_cpp.models.files import ModelFiles


@dataclass(frozen=True)
class ModelIdentity:
    """What a conversation was held with; every field but the name decides whether its keys and values serve again.

    Attributes:
        name: for people.
        text_id, vision_id: `GgufHeader.weights_id` of the two files.
        llama_cpp: version of llama-cpp-python, whose llama.cpp wrote keys and values.
    """

    name: str
    text_id: str
    vision_id: str
    llama_cpp: str


def identity_of(files: ModelFiles) -> ModelIdentity:
    """Read what identifies a model: samples of its files' weights."""
    from importlib.metadata import version  # a tenth of the import of palo_cpp

    return ModelIdentity(
        name=files.name,
        text_id=files.text.weights_id(),
        vision_id=files.mmproj.weights_id() if files.mmproj else "",
        llama_cpp=version("llama-cpp-python"),
    )
