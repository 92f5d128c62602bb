"""VisCPM-Chat: BEiT-3, a mapping and CPM-Bee; `tensor_rows` has a table of everything in its two files."""

from __future__ import annotations

from ...checkpoint import CheckpointFolder
from ...json_file import Config
from ..family import Companions, FileKind, Model
from .files import TEXT, VISION
from .model import is_checkpoint, open_checkpoint

_ARCHITECTURES = ("VisCpmBeeForCausalLM", "CpmBeeForCausalLM")


class _VisCpm:
    """The family, as `families.family.Family` describes one."""

    name = "VisCPM-Chat and CPM-Bee"
    model_types: tuple[str, ...] = ("viscpmchatbee", "cpmbee")
    published: tuple[str, ...] = ("openbmb/VisCPM-Chat",)
    kinds: tuple[FileKind, ...] = (TEXT, VISION)

    def recognizes(self, config: Config) -> bool:
        """By `model_type`, or else `architectures`."""
        if (model_type := config.get("model_type")) is not None:
            return model_type in self.model_types
        names = config.names("architectures")
        return bool(names) and all(name in _ARCHITECTURES for name in names)

    def recognizes_folder(self, folder: CheckpointFolder) -> bool:
        """A lone file of weights beside its vocab.txt, as the authors publish them."""
        return is_checkpoint(folder)

    def open(self, folder: CheckpointFolder, companions: Companions) -> Model:
        """See `Family.open`."""
        return open_checkpoint(folder, companions)


VISCPM = _VisCpm()
