"""Files given as a language model: damaged and hostile ones are errors that name what is wrong, never a crash."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_gguf

from palo_cpp.errors import ArgumentError, ModelFormatError, ModelNotFoundError
from palo_cpp.ggml.llama_library import llama_library, recorded_errors
from palo_cpp.llm.language_model import LanguageModel

HOSTILE = {
    "n_head": {"llama__attention__head_count": 0},
    "n_head_kv": {"llama__attention__head_count_kv": 3},
    "n_head_kv_zero": {"llama__attention__head_count_kv": 0},
    "odd_head": {"llama__attention__head_count": 64, "llama__attention__head_count_kv": 64},
    "n_layer": {"llama__block_count": 600},
    "more_layers": {"llama__block_count": 3},
    "n_ctx": {"llama__context_length": 0},
    "n_ctx_missing": {"llama__context_length": None},
    "n_embd_text": {"llama__embedding_length": "wide"},
    "n_ff": {"llama__feed_forward_length": 96},
    "experts": {"llama__expert_count": 8},
    "rope": {"llama__rope__dimension_count": 3},
    "rope_wide": {"llama__rope__dimension_count": 128},
    "key_length": {"llama__attention__key_length": 0},
    "key_length_odd": {"llama__attention__key_length": 7},
    "value_length": {"llama__attention__value_length": 48},
    "eps": {"llama__attention__layer_norm_rms_epsilon": None},
    "eps_text": {"llama__attention__layer_norm_rms_epsilon": "small"},
    "tokenizer": {"tokenizer__ggml__model": "gpt2"},
    "no_tokenizer": {"tokenizer__ggml__model": None},
    "few_tokens": {"tokenizer__ggml__tokens": [b"a", b"b"]},
    "no_tokens": {"tokenizer__ggml__tokens": None},
    "equal_tokens": {"tokenizer__ggml__tokens": [b"same"] * len(tiny_gguf.pieces()[0])},
    "short_scores": {"tokenizer__ggml__scores": [0.0, 0.0]},
    "text_scores": {"tokenizer__ggml__scores": ["a"] * len(tiny_gguf.pieces()[0])},
    "eos": {"tokenizer__ggml__eos_token_id": 10**6},
    "bos": {"tokenizer__ggml__bos_token_id": "one"},
    "architecture": {"arch": "qwen2"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_is_an_error(tmp_path, name):
    path = tiny_gguf.write_text_gguf(tmp_path / f"{name}.gguf", **HOSTILE[name])
    with pytest.raises(ModelFormatError, match=rf"{name}\.gguf: expected"):
        LanguageModel(path)


@pytest.mark.parametrize("change", ["missing", "shape", "integers", "norm_f16", "nothing"])
def test_hostile_tensors_are_an_error(tmp_path, change):
    tensors = tiny_gguf.weights(len(tiny_gguf.pieces()[0]))
    if change == "missing":
        del tensors["blk.1.attn_q.weight"]
    elif change == "shape":
        tensors["blk.0.ffn_up.weight"] = np.zeros((64, 64), np.float32)
    elif change == "integers":
        tensors["output.weight"] = tensors["output.weight"].astype(np.int32)
    elif change == "norm_f16":
        tensors["output_norm.weight"] = tensors["output_norm.weight"].astype(np.float16)
    else:
        tensors = {}
    path = tiny_gguf.write_text_gguf(tmp_path / "a.gguf", tensors=tensors)
    with pytest.raises(ModelFormatError, match=r"a\.gguf: expected"):
        LanguageModel(path)


def test_files_that_are_not_gguf(tmp_path, text_gguf):
    for name, data in {"empty": b"", "text": b"hello", "zip": b"PK\x03\x04" * 100}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelFormatError, match="expected a GGUF file, got one that begins with"):
            LanguageModel(tmp_path / name)
    with pytest.raises(ModelNotFoundError, match="got no file there"):
        LanguageModel(tmp_path / "missing.gguf")
    with pytest.raises(ModelNotFoundError, match="got no file there"):
        LanguageModel(text_gguf.parent)


def test_truncated_and_damaged_files(tmp_path, text_gguf):
    data = text_gguf.read_bytes()
    for n in (4, 8, 20, 100, 5_000, 20_000, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.gguf").write_bytes(data[:n])
        with pytest.raises(ModelFormatError, match=r"damaged|cut short"):
            LanguageModel(tmp_path / "cut.gguf")
    random = np.random.default_rng(0)
    for i in range(60):  # bits flipped in the header: refused or loaded, but alive
        broken = bytearray(data)
        for at in random.integers(4, 60_000 if i % 2 else 400, 3):
            broken[at] ^= 1 << int(random.integers(8))
        (tmp_path / "broken.gguf").write_bytes(broken)
        try:
            LanguageModel(tmp_path / "broken.gguf").close()
        except (ModelFormatError, ArgumentError):
            continue


def test_mmproj_given_as_language_model(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "mmproj-a.gguf", "clip")
    writer.add_type("mmproj")
    writer.add_tensor("v.class_embd", np.zeros(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelFormatError, match="got the mmproj file"):
        LanguageModel(tmp_path / "mmproj-a.gguf")


def test_path_with_letters_of_many_scripts(tmp_path, text_gguf):
    path = tmp_path / "मॉडल 模型 نموذج.gguf"
    shutil.copy(text_gguf, path)
    with LanguageModel(path) as model:
        assert model.n_embd == 64


def test_what_llama_cpp_reports_as_an_error_is_logged_and_recorded_as_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(b"GGUF" + (99).to_bytes(4, "little") + bytes(64))
    library = llama_library()
    with caplog.at_level(logging.DEBUG, "palo_cpp.llama"), recorded_errors() as errors:
        assert not library.llama_model_load_from_file(bytes(path), library.llama_model_default_params())
    assert any("version" in error for error in errors)
    assert {record.levelno for record in caplog.records if record.message in errors} == {logging.ERROR}
