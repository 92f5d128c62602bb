"""The families that there are, and which of them a file belongs to."""

from __future__ import annotations

from palo_cpp.errors import ModelFormatError
from palo_cpp.families.family import Family
from palo_cpp.families.palo.family import PaloFamily
from palo_cpp.families.viscpm.family import VisCpmFamily
from palo_cpp.ggml.gguf_header import GgufHeader

PALO = PaloFamily()
VISCPM = VisCpmFamily()
FAMILIES: list[Family] = [PALO, VISCPM]


def family_of(text: GgufHeader) -> Family:
    """The family of a language model's file, which is checked.

    Raises:
        ModelFormatError: it belongs to none, or could not be loaded.
    """
    if text.is_mmproj:
        raise ModelFormatError(
            f"{text.path.name}: expected the text model, got the mmproj file of vision tower and projector; "
            "give the folder that holds both"
        )
    family = next((family for family in FAMILIES if family.recognizes(text)), None)
    if family is None:
        known = ", ".join(family.name for family in FAMILIES)
        raise ModelFormatError(
            f"{text.path.name}: expected a model of a known family ({known}), got the architecture "
            f"{text.metadata.get('general.architecture')!r}; convert a checkpoint of one of them"
        )
    family.check(text)
    return family
