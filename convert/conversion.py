"""A checkpoint -> `NAME-OUTTYPE.gguf` and `mmproj-NAME-TYPE.gguf`, under upstream's names and keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palo_cpp.errors import ArgumentError
from palo_cpp.families.palo.chat_template import VICUNA_V1
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.partial_files import partial_files

from .families.palo.sources import Source, open_source
from .gguf_output import PairHash, set_pair_id, write_tensors
from .model_card import ModelCard, model_card
from .plan import (
    Plan,
    PlannedFile,
    PlannedTensor,
    assign_tensors,
    dropped_tensors,
    kv_cache_bytes,
    lossless_type,
    output_type,
    peak_memory_bytes,
)
from .progress import ProgressCallback, ProgressCounter
from .quantization import FILE_TYPES, MMPROJ_TYPES, TEXT_TYPES, estimated_bytes, quantize_text
from .stored_tensor import SourceTensor
from .tensor_spec import TensorSpec
from .token_table import TokenTable, read_tokenizer

if TYPE_CHECKING:
    import gguf

_UNQUANTIZED = ("f32", "f16", "bf16")


@dataclass(frozen=True)
class Conversion:
    """Result of `convert`.

    Attributes:
        plan: what was, or with `dry_run` would be, done.
        model_path: file of the decoder.
        mmproj_path: file of tower and projector.
    """

    plan: Plan
    model_path: Path
    mmproj_path: Path


def convert_checkpoint(
    source: Path,
    output: Path,
    *,
    vision_tower: Path | None,
    base: Path | None,
    outtype: str,
    mmproj_outtype: str,
    name: str | None,
    dry_run: bool,
    progress: ProgressCallback | None,
) -> Conversion:
    """See `palo_cpp.convert.convert`, which this does."""
    text_type = _known_type("--outtype", outtype, TEXT_TYPES)
    mmproj_type = _known_type("--mmproj-outtype", mmproj_outtype, MMPROJ_TYPES)
    opened = open_source(source, vision_tower, base)
    card = model_card(source, opened.config, name)
    tokens = read_tokenizer(opened.tokenizer_folder, opened.text.n_vocab)
    plan = make_plan(opened, card, text_type, mmproj_type, tokens.warnings)
    _check_output(opened, output)
    result = Conversion(plan, output / plan.text.file_name, output / plan.mmproj.file_name)
    if not dry_run:
        _write(opened, card, tokens, plan, output, progress)
    return result


def _known_type(option: str, name: str, known: tuple[str, ...]) -> str:
    if name.lower() not in known:
        raise ArgumentError(f"{option}: expected one of {', '.join(known)}, got {name!r}")
    return name.lower()


def _check_output(source: Source, output: Path) -> None:
    """The source is never touched, so nothing is written into its folders."""
    resolved = output.resolve()
    for folder in source.folders:
        if resolved == folder or folder in resolved.parents:
            raise ArgumentError(
                f"{output}: lies inside the source {folder}, which is never changed; choose another folder"
            )
    if resolved.exists() and not resolved.is_dir():
        raise ArgumentError(f"{output}: expected a folder, got a file; choose another name")


def make_plan(source: Source, card: ModelCard, text_type: str, mmproj_type: str, warnings: list[str]) -> Plan:
    """Decide type and size of every tensor."""
    text, vision = assign_tensors(source)
    written_type = text_type if text_type in _UNQUANTIZED else lossless_type([tensor for _, tensor in text])
    text_tensors, vision_tensors = _planned(text, written_type), _planned(vision, mmproj_type)
    n_text, n_vision = (sum(t.n_bytes for t in tensors) for tensors in (text_tensors, vision_tensors))
    if text_type not in _UNQUANTIZED:
        n_text = estimated_bytes([t.spec.gguf_shape for t in text_tensors], text_type)
    return Plan(
        name=card.name,
        source=source.folder,
        text=PlannedFile(f"{card.name}-{text_type.upper()}.gguf", text_tensors, text_type, n_text),
        mmproj=PlannedFile(f"mmproj-{card.name}-{mmproj_type.upper()}.gguf", vision_tensors, mmproj_type, n_vision),
        projector=source.projector.source_type,
        n_image_tokens=source.projector.n_image_tokens(source.vision.n_patches_per_side),
        dropped=dropped_tensors(source),
        warnings=[*source.warnings, *warnings],
        peak_memory_bytes=peak_memory_bytes([*text_tensors, *vision_tensors]),
        run_memory_bytes=n_text + n_vision + kv_cache_bytes(source),
    )


def _planned(pairs: list[tuple[TensorSpec, SourceTensor]], outtype: str) -> list[PlannedTensor]:
    return [PlannedTensor(spec, tensor, output_type(spec, outtype)) for spec, tensor in pairs]


def _write(
    source: Source, card: ModelCard, tokens: TokenTable, plan: Plan, output: Path, report: ProgressCallback | None
) -> None:
    is_quantized = plan.text.outtype not in _UNQUANTIZED
    n_again, bytes_again = (len(plan.text.tensors), plan.text.n_bytes_written) if is_quantized else (0, 0)
    n_tensors = len(plan.text.tensors) + len(plan.mmproj.tensors) + n_again
    n_bytes = plan.text.n_bytes_written + plan.mmproj.n_bytes + bytes_again
    progress, pair_hash = ProgressCounter(report, n_tensors, n_bytes), PairHash()
    with partial_files(output, plan.n_bytes_needed) as partial:
        text, mmproj = partial.new(plan.text.file_name), partial.new(plan.mmproj.file_name)
        write_tensors(text, text_keys(source, card, tokens, plan), plan.text.tensors, pair_hash, progress)
        write_tensors(mmproj, mmproj_keys(source, card, plan), plan.mmproj.tensors, pair_hash, progress)
        for path in (text, mmproj):
            set_pair_id(path, pair_hash.hexdigest())
        if is_quantized:
            quantized = partial.new(plan.text.file_name)
            quantize_text(text, quantized, plan.text.outtype, n_threads=0, progress=progress)
            text = quantized
        partial.publish({text: plan.text.file_name, mmproj: plan.mmproj.file_name})


def text_keys(source: Source, card: ModelCard, tokens: TokenTable, plan: Plan) -> gguf.GGUFWriter:
    """Keys of the decoder's file: those that llama.cpp reads for architecture `llama`, and general ones."""
    import gguf

    sizes = source.text
    writer = gguf.GGUFWriter(None, "llama")
    writer.add_type("model")
    card.add_to(writer)
    writer.add_languages(list(LANGUAGES))
    writer.add_file_type(FILE_TYPES[plan.text.tensors[0].type.lower()][0])
    writer.add_vocab_size(sizes.n_vocab)
    writer.add_context_length(sizes.n_ctx_train)
    if sizes.n_ctx_tuned is not None:
        writer.add_uint32("palo.context_length", sizes.n_ctx_tuned)
    writer.add_embedding_length(sizes.n_embd)
    writer.add_block_count(sizes.n_layer)
    writer.add_feed_forward_length(sizes.n_ff)
    writer.add_head_count(sizes.n_head)
    writer.add_head_count_kv(sizes.n_head_kv)
    writer.add_key_length(sizes.head_dim)
    writer.add_value_length(sizes.head_dim)
    writer.add_layer_norm_rms_eps(sizes.rms_norm_eps)
    writer.add_rope_dimension_count(sizes.head_dim)
    writer.add_rope_freq_base(sizes.rope_theta)
    if sizes.rope_factor is not None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(sizes.rope_factor)
    _add_tokenizer(writer, tokens)
    return writer


def _add_tokenizer(writer: gguf.GGUFWriter, tokens: TokenTable) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens.tokens)
    writer.add_token_scores(tokens.scores)
    writer.add_token_types(tokens.types)
    writer.add_bos_token_id(tokens.bos_id)
    writer.add_eos_token_id(tokens.eos_id)
    writer.add_unk_token_id(tokens.unk_id)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(tokens.add_space_prefix)
    writer.add_chat_template(VICUNA_V1)
    writer.add_bool("palo.tokenizer_legacy", tokens.legacy)


def mmproj_keys(source: Source, card: ModelCard, plan: Plan) -> gguf.GGUFWriter:
    """Keys of the file of tower and projector: those that tools/mtmd/clip.cpp reads."""
    import gguf

    vision = source.vision
    writer = gguf.GGUFWriter(None, "clip")
    writer.add_type("mmproj")
    card.add_to(writer)
    writer.add_languages(list(LANGUAGES))
    writer.add_file_type(FILE_TYPES[plan.mmproj.outtype][0])
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(source.projector.gguf_type)
    writer.add_vision_use_gelu(vision.hidden_act == "gelu")  # false: quick GELU
    writer.add_vision_image_size(vision.image_size)
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.n_embd)
    writer.add_vision_feed_forward_length(vision.n_ff)
    writer.add_vision_head_count(vision.n_head)
    writer.add_vision_attention_layernorm_eps(vision.layer_norm_eps)
    writer.add_vision_projection_dim(source.projector.n_out)
    # Without `feature_layer` upstream stops one layer before `block_count`. With it, it stops where we say: the file
    # holds exactly the layers up to the selected hidden state, and none that is never run.
    writer.add_vision_block_count(vision.select_layer)
    writer.add_array("clip.vision.feature_layer", [vision.select_layer])
    writer.add_vision_image_mean(list(vision.image_mean))
    writer.add_vision_image_std(list(vision.image_std))
    writer.add_string("palo.image_preprocess", source.preprocess)
    return writer
