"""One package for each family of models that the converter knows; everything outside is the same for all of them."""

from __future__ import annotations

from palo_cpp.errors import ModelFormatError

from ..checkpoint import CheckpointFolder
from ..json_file import Config
from .family import Companions, Family, FileKind, Model, OutputFile
from .palo import PALO
from .viscpm import VISCPM

__all__ = [
    "FAMILIES",
    "Companions",
    "Family",
    "FileKind",
    "Model",
    "OutputFile",
    "family_of",
    "family_of_folder",
    "file_kinds",
]

FAMILIES: tuple[Family, ...] = (PALO, VISCPM)


def family_of(config: Config) -> Family:
    """The family that a checkpoint belongs to.

    Raises:
        ModelFormatError: none of them; the message names what it is and what is known.
    """
    for family in FAMILIES:
        if family.recognizes(config):
            return family
    known = ", ".join(name for family in FAMILIES for name in family.model_types)
    architectures = ", ".join(config.names("architectures"))[:200]
    named = f" ({architectures})" if architectures else ""
    raise ModelFormatError(
        f"{config.path}: model_type: expected one of {known}, got {config.get('model_type')!r}{named}; "
        f"only {', '.join(family.name for family in FAMILIES)} can be converted"
    )


def family_of_folder(folder: CheckpointFolder) -> Family | None:
    """The family of a checkpoint without config.json; None where none knows it, or where there is one."""
    if folder.holds("config.json"):
        return None
    return next((family for family in FAMILIES if family.recognizes_folder(folder)), None)


def file_kinds() -> dict[str, FileKind]:
    """`general.architecture` -> the kind of file that has it."""
    return {kind.architecture: kind for family in FAMILIES for kind in family.kinds}
