"""The true sizes of the published models: what random weights need to take the time that real ones would.

Source: shared facts of the models (arXiv 2402.14818) and the `config.json` of their bases, MobileLLaMA-1.4B-Chat and
vicuna-v1.5; the tower is openai/clip-vit-large-patch14-336, of which layer 23 of 24 is the last that runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from palo_cpp.convert.families.palo.sizes import CLIP_MEAN, CLIP_STD, Projector, TextSizes, VisionSizes
from palo_cpp.errors import ArgumentError
from palo_cpp.models.names import PUBLISHED

STUB_SUFFIX = "-stub"

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
class ModelSizes:
    """One model on paper.

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

    def stub(self) -> ModelSizes:
        """The same model with next to no decoder: libmtmd wants one of the right width even to encode alone."""
        text = replace(self.text, n_layer=1, n_ff=256, n_vocab=512)
        return replace(self, name=self.name + STUB_SUFFIX, text=text)


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


MODELS: dict[str, ModelSizes] = {
    "mobile": ModelSizes("mobile", _llama("mobile", 1e-6), CLIP_L_336, Projector("ldpnet", "ldp", 0, 1024, 2048)),
    "7b": ModelSizes("7b", _llama("7b", 1e-5), CLIP_L_336, _mlp(4096)),
    "13b": ModelSizes("13b", _llama("13b", 1e-5), CLIP_L_336, _mlp(5120)),
}


def model_sizes(name: str) -> ModelSizes:
    """Look up a published model.

    Raises:
        ArgumentError: not one of them.
    """
    if name not in MODELS:
        raise ArgumentError(
            f"--synthetic: expected a model of known sizes ({', '.join(MODELS)}), got {name!r}; "
            "leave --synthetic out to measure files of your own"
        )
    return MODELS[name]
