"""The true sizes of the published PALO models.

Source: shared facts of the models (arXiv 2402.14818) and the `config.json` of their bases, MobileLLaMA-1.4B-Chat and
vicuna-v1.5; the tower is openai/clip-vit-large-patch14-336, of which layer 23 of 24 is the last that runs.
"""

from __future__ import annotations

import itertools
import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from palo_cpp.bench.random_file import RandomFile
from palo_cpp.convert.block_types import output_type
from palo_cpp.convert.families.palo.files import MMPROJ, TEXT, add_mmproj_keys, add_text_keys
from palo_cpp.convert.families.palo.sizes import CLIP_MEAN, CLIP_STD, Projector, TextSizes, VisionSizes
from palo_cpp.convert.families.palo.tensor_rows import projector_specs, text_specs, vision_specs
from palo_cpp.convert.tensor_spec import TensorSpec
from palo_cpp.convert.token_table import BYTE, CONTROL, NORMAL, UNKNOWN, TokenTable
from palo_cpp.models.names import PUBLISHED
from palo_cpp.models.weight_types import checked_outtype, matrix_type

if TYPE_CHECKING:
    import gguf

_N_SPECIAL, _N_BYTES = 3, 256

CLIP_L_336 = VisionSizes(
    image_size=336,
    patch_size=14,
    n_embd=1024,
    n_ff=4096,
    n_layer=24,
    n_head=16,
    layer_norm_eps=1e-5,
    hidden_act="quick_gelu",
    select_layer=23,
    image_mean=CLIP_MEAN,
    image_std=CLIP_STD,
)


@dataclass(frozen=True)
class PaloSizes:
    """A model of PALO on paper; see `ModelSizes`.

    Attributes:
        name: what users call it.
        text: sizes of the decoder.
        vision: sizes of the tower.
        projector: kind and widths of the projector.
    """

    name: str
    text: TextSizes
    vision: VisionSizes
    projector: Projector

    @property
    def n_image_tokens(self) -> int:
        """Image embeddings of one image."""
        return self.projector.n_image_tokens(self.vision.n_patches_per_side)

    def stub(self) -> PaloSizes:
        """The same model with next to no decoder: libmtmd wants one of the right width even to encode alone."""
        return replace(self, text=replace(self.text, n_layer=1, n_ff=256, n_vocab=512))

    def text_file(self, outtype: str) -> RandomFile:
        """The decoder's file."""
        outtype = checked_outtype(outtype, "--outtype")

        def add_keys(writer: gguf.GGUFWriter) -> None:
            add_text_keys(writer, self.text, vocabulary(self.text.n_vocab))

        def type_of(spec: TensorSpec) -> str:
            return "F32" if len(spec.gguf_shape) == 1 else matrix_type(spec.gguf, outtype, self.text.n_layer)

        return RandomFile(TEXT, text_specs(self.text), type_of, add_keys)

    def mmproj_file(self, outtype: str) -> RandomFile:
        """The file of tower and projector."""

        def add_keys(writer: gguf.GGUFWriter) -> None:
            add_mmproj_keys(writer, self.vision, self.projector, "pad")

        specs = vision_specs(self.vision) + projector_specs(self.projector)
        return RandomFile(MMPROJ, specs, lambda spec: output_type(spec, outtype), add_keys)


def _llama(name: str, rms_norm_eps: float) -> TextSizes:
    sizes = PUBLISHED[name].text
    return TextSizes(
        n_embd=sizes.n_embd,
        n_ff=sizes.n_ff,
        n_layer=sizes.n_layer,
        n_head=sizes.n_head,
        n_head_kv=sizes.n_head_kv,
        head_dim=sizes.n_key,
        n_vocab=sizes.n_vocab,
        n_ctx_train=sizes.n_ctx_train,
        rms_norm_eps=rms_norm_eps,
        rope_theta=10000.0,
        rope_factor=None,
        tied_embeddings=False,
    )


def _mlp(n_out: int) -> Projector:
    return Projector("mlp2x_gelu", "mlp", 2, 1024, n_out)


PALO_MODELS: dict[str, PaloSizes] = {
    "mobile": PaloSizes("mobile", _llama("mobile", 1e-6), CLIP_L_336, Projector("ldpnet", "ldp", 0, 1024, 2048)),
    "7b": PaloSizes("7b", _llama("7b", 1e-5), CLIP_L_336, _mlp(4096)),
    "13b": PaloSizes("13b", _llama("13b", 1e-5), CLIP_L_336, _mlp(5120)),
}


def vocabulary(n_vocab: int) -> TokenTable:
    """A vocabulary laid out like LLaMA's: three special pieces, 256 bytes, then made-up pieces.

    Args:
        n_vocab: at least 259.

    Returns:
        Pieces, all different; the earlier a piece, the better its score.
    """
    special = [b"<unk>", b"<s>", b"</s>"]
    in_bytes = [f"<0x{value:02X}>".encode() for value in range(_N_BYTES)]
    letters = string.ascii_lowercase
    words = ("".join(word) for n in range(1, 5) for word in itertools.product(letters, repeat=n))
    # "\u2581" is SentencePiece's space; each word with and without one.
    pieces = itertools.chain(["\u2581"], (space + word for word in words for space in ("", "\u2581")))
    made_up = [piece.encode() for piece in itertools.islice(pieces, n_vocab - _N_SPECIAL - _N_BYTES)]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * _N_BYTES, *[NORMAL] * len(made_up)]
    return TokenTable(
        tokens=special + in_bytes + made_up,
        scores=[-float(i) for i in range(n_vocab)],
        types=types,
        bos_id=1,
        eos_id=2,
        unk_id=0,
        add_space_prefix=True,
        legacy=True,
        warnings=[],
    )
