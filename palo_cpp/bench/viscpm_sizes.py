"""The true sizes of VisCPM-Chat: BEiT-3, a mapping, CPM-Bee.

Source: the shapes of the published checkpoint's tensors (convert/families/viscpm/tensor_rows.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from palo_cpp.bench.random_file import RandomFile, even_spread
from palo_cpp.convert.block_types import output_type
from palo_cpp.convert.families.viscpm.files import TEXT, VISION, add_text_keys, add_vision_keys
from palo_cpp.convert.families.viscpm.mixtures import cpm_bee_types
from palo_cpp.convert.families.viscpm.sizes import TextSizes, VisionSizes
from palo_cpp.convert.families.viscpm.tensor_rows import text_specs, vision_specs
from palo_cpp.convert.tensor_spec import TensorSpec
from palo_cpp.families.viscpm.tokenizer import SPECIAL_IDS, BeeTokenizer
from palo_cpp.models.names import PUBLISHED

if TYPE_CHECKING:
    import gguf

# In the order of their ids; the published vocabulary is not ours to ship.
_SPECIAL = tuple(SPECIAL_IDS)


@dataclass(frozen=True)
class VisCpmSizes:
    """VisCPM-Chat on paper; see `ModelSizes`.

    Attributes:
        name: what users call it.
        text: sizes of CPM-Bee.
        vision: sizes of BEiT-3.
    """

    name: str
    text: TextSizes
    vision: VisionSizes

    def stub(self) -> VisCpmSizes:
        """The same model with next to no language model."""
        return replace(self, text=replace(self.text, n_layer=1, n_ff=256, n_vocab=512))

    def text_file(self, outtype: str) -> RandomFile:
        """The language model's file."""
        specs = text_specs(self.text)
        types = cpm_bee_types(specs, outtype)

        def add_keys(writer: gguf.GGUFWriter) -> None:
            add_text_keys(writer, self.text, vocabulary(self.text.n_vocab))

        def type_of(spec: TensorSpec) -> str:
            return types.get(spec.gguf) or output_type(spec, outtype)

        return RandomFile(TEXT, specs, type_of, add_keys, _spread)

    def mmproj_file(self, outtype: str) -> RandomFile:
        """The file of eye and mapping."""

        def add_keys(writer: gguf.GGUFWriter) -> None:
            add_vision_keys(writer, self.vision, self.text.n_embd)

        specs = vision_specs(self.vision, self.text.n_embd)
        return RandomFile(VISION, specs, lambda spec: output_type(spec, outtype), add_keys)


def _spread(spec: TensorSpec) -> tuple[float, float]:
    """The embedding and the bias are not divided by the square root of a width."""
    return (1.0, 0.0) if spec.gguf in ("token_embd.weight", "rel_attn_bias") else even_spread(spec)


def vocabulary(n_vocab: int) -> BeeTokenizer:
    """The specials and made-up words.

    Args:
        n_vocab: more than there are specials.
    """
    words = (f"w{i}" for i in range(n_vocab - len(_SPECIAL)))
    return BeeTokenizer([*_SPECIAL, *words], "vocabulary")


def _text(name: str) -> TextSizes:
    sizes = PUBLISHED[name].text
    return TextSizes(
        n_vocab=sizes.n_vocab,
        n_embd=sizes.n_embd,
        n_ff=sizes.n_ff,
        n_layer=sizes.n_layer,
        n_head=sizes.n_head,
        n_buckets=256,
        n_segment_buckets=256,
        max_distance=2048,
        eps=1e-6,
    )


BEIT3_LARGE = VisionSizes(
    image_size=224, patch_size=16, n_embd=1024, n_ff=4096, n_layer=24, n_queries=64, n_a=199, n_b=1024
)
VISCPM_MODELS: dict[str, VisCpmSizes] = {"viscpm": VisCpmSizes("viscpm", _text("viscpm"), BEIT3_LARGE)}
