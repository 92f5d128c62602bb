"""PALO, LLaVA-1.5 and MobileVLM: a CLIP vision tower, a projector and a LLaMA decoder."""

from __future__ import annotations

from ...checkpoint import CheckpointFolder
from ...json_file import Config
from ..family import Companions, FileKind, Model
from .files import MMPROJ, TEXT
from .model import open_checkpoint

_ARCHITECTURES = (
    "PaloForCausalLM",
    "LlavaLlamaForCausalLM",
    "LlavaForConditionalGeneration",
    "MobileLlamaForCausalLM",
    "LlamaForCausalLM",
)


class _Palo:
    """The family, as `families.family.Family` describes one."""

    name = "PALO, LLaVA-1.5 and MobileVLM"
    model_types: tuple[str, ...] = ("palo", "llava", "llava_llama", "mobilevlm", "mobilellama", "llama")
    published: tuple[str, ...] = ("MBZUAI/MobilePALO-1.7B", "MBZUAI/PALO-7B", "MBZUAI/PALO-13B")
    kinds: tuple[FileKind, ...] = (TEXT, MMPROJ)

    def recognizes(self, config: Config) -> bool:
        """By `model_type`, or else `architectures`; a config.json with neither, as an adapter's may be, is LLaVA's."""
        if (model_type := config.get("model_type")) is not None:
            return model_type in self.model_types
        return all(name in _ARCHITECTURES for name in config.names("architectures"))

    def recognizes_folder(self, folder: CheckpointFolder) -> bool:  # noqa: ARG002
        """No sizes are known without a config.json."""
        return False

    def open(self, folder: CheckpointFolder, companions: Companions) -> Model:
        """See `Family.open`."""
        return open_checkpoint(folder, companions)


PALO = _Palo()
