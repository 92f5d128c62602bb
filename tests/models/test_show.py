"""What `palo-cpp show` says of a file, where it comes from the file alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiny_gguf
from click.testing import CliRunner
from palo_cpp.convert import quantize, summarize

from palo_cpp.cli import palo_cpp as group
from palo_cpp.errors import ModelFormatError
from palo_cpp.ggml.gguf_header import read_header

KEY = "general.languages"


def with_languages(folder: Path, languages: list[Any], **changes: Any) -> Path:
    return tiny_gguf.write_text_gguf(folder / "tiny.gguf", **{"general__languages": languages, **changes})


def shown(path: Path, *options: str) -> str:
    result = CliRunner().invoke(group, ["show", str(path), *options], prog_name="palo-cpp")
    assert result.exit_code == 0, result.output
    return result.stdout


def line(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(label)).removeprefix(label).strip()


@pytest.mark.parametrize("languages", [["zh", "en"], ["en", "zh", "hi", "es", "fr", "ar", "bn", "ru", "ur", "de"]])
def test_the_languages_are_those_of_the_file(tmp_path, languages):
    path = with_languages(tmp_path, languages, palo__pair_id="0" * 32)
    assert line(shown(path), "languages") == " ".join(languages)
    assert json.loads(shown(path, "--json"))["languages"] == languages
    assert read_header(path).languages == tuple(languages)


def test_languages_are_kept_by_quantize(tmp_path):
    quantized = quantize(with_languages(tmp_path, ["zh", "en"]), tmp_path / "small.gguf", "q8_0")
    assert summarize(quantized).languages == ["zh", "en"]


def test_a_file_without_languages_shows_none(tmp_path):
    path = tiny_gguf.write_text_gguf(tmp_path / "tiny.gguf")
    assert summarize(path).languages is None and read_header(path).languages == ()
    assert not any(line.startswith("languages") for line in shown(path).splitlines())


@pytest.mark.parametrize(
    ("languages", "expected"),
    [
        (["zh-Hans", "sr_Latn", "en"], ("zh-Hans", "en")),
        (["\x1b[2J", "", "hi\n", "हि", "x" * 40, "ur"], ("ur",)),
        (["en"] * 256, ("en",) * 256),
        (["en"] * 257, ()),
        (["en", "x" * 100_000], ()),
        ([1, 2], ()),
    ],
)
def test_what_is_no_list_of_languages_is_left_out(tmp_path, languages, expected):
    assert read_header(with_languages(tmp_path, languages)).languages == expected


def test_other_short_lists_of_strings_are_read(tmp_path):
    path = with_languages(tmp_path, ["en"], general__tags=["image-text-to-text", "भाषा"])
    assert read_header(path).strings == {KEY: ("en",), "general.tags": ("image-text-to-text", "भाषा")}


def test_a_list_that_claims_more_strings_than_the_file_holds_is_refused(tmp_path):
    path = with_languages(tmp_path, ["en", "zh"])
    content = path.read_bytes()
    start = content.index(KEY.encode()) + len(KEY) + 8  # the types of value and elements, then their number
    for n in (1 << 60, 1 << 31, 3):
        path.write_bytes(content[:start] + struct.pack("<Q", n) + content[start + 8 :])
        with pytest.raises(ModelFormatError):
            read_header(path)


def test_every_type_of_llama_h_has_its_name(tmp_path):
    for name, number in {"F32": 0, "Q4_K_M": 15, "IQ2_XXS": 19, "BF16": 32, "unknown": 999}.items():
        path = with_languages(tmp_path, ["en"], general__file_type=number)
        assert line(shown(path), "type") == name


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path):
    path = tiny_gguf.write_text_gguf(tmp_path / "tiny.gguf", general__name="evil\x1b[31m\n\x9bname हिन्दी\u200d")
    assert line(shown(path), "name") == "evil\\x1b[31m\\n\\x9bname हिन्दी\u200d"


def test_image_tokens_by_projector(tmp_path):
    def n_image_tokens(kind: str, image_size: int) -> int | None:
        writer = gguf.GGUFWriter(tmp_path / "mmproj-tiny.gguf", "clip")
        writer.add_string("clip.projector_type", kind)
        writer.add_uint32("clip.vision.image_size", image_size)
        writer.add_uint32("clip.vision.patch_size", 14)
        writer.add_tensor("t", np.zeros((2, 32), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return summarize(tmp_path / "mmproj-tiny.gguf").n_image_tokens

    assert [n_image_tokens(kind, 336) for kind in ("mlp", "linear", "ldp", "ldpv2")] == [576, 576, 144, 144]
    assert [n_image_tokens(kind, 70) for kind in ("mlp3x_gelu", "ldp", "ldpv2")] == [25, 9, 4]
