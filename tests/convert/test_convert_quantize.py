"""Quantizing existing GGUF files of both kinds, and describing them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import checkpoints
import gguf
import numpy as np
import pytest
import stock_llama
from palo_cpp.convert import Progress, convert, outtypes, quantize, summarize
from palo_cpp.convert.conversion import Conversion
from palo_cpp.convert.file_types import FILE_TYPES, NEED_IMPORTANCE_MATRIX

from palo_cpp.errors import ArgumentError, ModelFormatError, ModelNotFoundError
from palo_cpp.families.palo.chat_template import VICUNA_V1


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    folder = tmp_path_factory.mktemp("model")
    source = checkpoints.write_checkpoint(folder / "PALO-Small", projector="ldpnet")
    return convert(source, folder / "out", outtype="f32", mmproj_outtype="f32")


def test_types_are_those_of_llama_h() -> None:
    import llama_cpp.llama_cpp as library

    numbers = {
        name.removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_").removeprefix("ALL_").lower(): number
        for name, number in vars(library).items()
        if name.startswith("LLAMA_FTYPE_") and not name.endswith("GUESSED")
    }
    ours = {name: number for name, (number, _) in FILE_TYPES.items()}
    assert ours == {name: numbers[name] for name in outtypes()}
    assert set(numbers) - set(ours) == {*NEED_IMPORTANCE_MATRIX, "nvfp4"}  # all that the quantizer refuses


# How close the logits stay to those of the f32 file; random weights suffer more than trained ones.
@pytest.mark.parametrize(
    ("outtype", "correlation"),
    [
        ("f16", 0.9999),
        ("bf16", 0.9999),
        ("q8_0", 0.999),
        ("q6_k", 0.99),
        ("q4_k_m", 0.9),
        ("q4_0", 0.9),
        ("iq4_xs", 0.85),
    ],
)
def test_text_types_load_and_answer_alike(tmp_path: Path, done: Conversion, outtype: str, correlation: float) -> None:
    path = quantize(done.model_path, tmp_path, outtype, n_threads=1)
    assert path.name == f"PALO-Small-{outtype.upper()}.gguf"
    assert (
        summarize(path).file_type == outtype.upper() and summarize(path).pair_id == summarize(done.model_path).pair_id
    )
    tokens = [1, 300, 7, 941]
    logits = [stock_llama.logits(p, tokens).ravel() for p in (path, done.model_path)]
    assert np.corrcoef(logits)[0, 1] > correlation
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("outtype", ["f16", "bf16", "q8_0"])
def test_mmproj_types(tmp_path: Path, done: Conversion, outtype: str) -> None:
    seen: list[Progress] = []
    path = quantize(done.mmproj_path, tmp_path, outtype.upper(), progress=seen.append)
    again = convert(done.plan.source, tmp_path / "direct", mmproj_outtype=outtype).mmproj_path
    assert path.name == again.name == f"mmproj-PALO-Small-{outtype.upper()}.gguf"
    assert len(seen) == len(done.plan.file("mmproj").tensors)
    first, second = gguf.GGUFReader(path), gguf.GGUFReader(again)
    tensors = {t.name: t for t in second.tensors}
    for tensor in first.tensors:
        assert tensor.tensor_type == tensors[tensor.name].tensor_type, tensor.name
        np.testing.assert_array_equal(tensor.data, tensors[tensor.name].data)
    for name, field in first.fields.items():
        if not name.startswith("GGUF."):
            assert field.contents() == second.fields[name].contents(), name


def test_refusals(tmp_path: Path, done: Conversion) -> None:
    with pytest.raises(ArgumentError, match="expected one of f32, f16"):
        quantize(done.model_path, tmp_path, "q17")
    with pytest.raises(ArgumentError, match="importance matrix"):
        quantize(done.model_path, tmp_path, "iq2_xxs")
    with pytest.raises(ArgumentError, match="expected one of f32, f16, bf16, q8_0"):
        quantize(done.mmproj_path, tmp_path, "q4_0")
    with pytest.raises(ArgumentError, match="never quantized in place"):
        quantize(done.model_path, done.model_path, "q4_0")
    (tmp_path / "link.gguf").symlink_to(done.model_path)
    with pytest.raises(ArgumentError, match="never quantized in place"):
        quantize(done.model_path, tmp_path / "link.gguf", "q4_0")
    with pytest.raises(ArgumentError, match="is f32 already"):
        quantize(done.model_path, done.model_path.parent, "f32")
    with pytest.raises(ModelNotFoundError):
        quantize(tmp_path / "absent.gguf", tmp_path, "q4_0")
    small = quantize(done.model_path, tmp_path, "q4_0")
    with pytest.raises(ModelFormatError, match="quantized ones"):
        quantize(small, tmp_path, "q8_0")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["PALO-Small-Q4_0.gguf", "link.gguf"]


def test_what_llama_cpp_refuses_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "llama")  # no sizes at all
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelFormatError, match=r"odd\.gguf: llama\.cpp cannot quantize it"):
        quantize(tmp_path / "odd.gguf", tmp_path / "out.gguf", "q8_0")
    assert [p.name for p in tmp_path.iterdir()] == ["odd.gguf"]


def test_damaged_files_are_one_clear_error(tmp_path: Path, done: Conversion) -> None:
    whole = done.mmproj_path.read_bytes()
    for name, content in {
        "empty": b"",
        "text": b"hello, world",
        "magic only": b"GGUF",
        "half header": whole[:700],
        "half data": whole[: len(whole) // 2],
        "huge counts": whole[:8] + b"\xff" * 16 + whole[24:],
        "swapped": whole[:4] + whole[4:8][::-1] + whole[8:],
    }.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        for action in (summarize, lambda p: quantize(p, tmp_path / "out.gguf", "f16")):
            with pytest.raises(ModelFormatError) as caught:
                action(path)
            assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.gguf").exists()


def test_flipped_header_bytes_never_end_the_interpreter(tmp_path: Path, done: Conversion) -> None:
    whole = done.mmproj_path.read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "flipped.gguf"
    for _ in range(150):
        data = bytearray(whole)
        for at in rng.integers(0, 3000, 3):
            data[at] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            str(summarize(path))
        except ModelFormatError:
            continue


def test_summary_of_both_kinds(done: Conversion) -> None:
    text, mmproj = summarize(done.model_path), summarize(done.mmproj_path)
    assert text.kind == "text" and mmproj.kind == "mmproj" and text.pair_id == mmproj.pair_id
    assert text.sizes["n_layer"] == 2 and text.sizes["n_vocab"] == 960 and text.chat_template == "vicuna_v1"
    assert mmproj.projector == "ldp" and mmproj.n_image_tokens == 4 and mmproj.preprocess == "pad"
    assert text.languages == ["en", "zh", "hi", "es", "fr", "ar", "bn", "ru", "ur", "ja"]
    kv_bytes = 2048 * 2 * (2 * 64) * 2 * 2
    assert text.memory_bytes == done.plan.file("text").n_bytes + kv_bytes
    assert "vicuna_v1" in str(text) and "ldp" in str(mmproj) and VICUNA_V1 not in str(text)
    assert json.loads(json.dumps(text.to_dict()))["types"] == {"F32": 21}


def test_the_library_prints_nothing(tmp_path: Path, done: Conversion) -> None:
    code = (
        "import sys; from palo_cpp.convert import *; quantize(sys.argv[1], sys.argv[2], 'q4_0'); summarize(sys.argv[1])"
    )
    command = [sys.executable, "-c", code, str(done.model_path), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, check=True)
    assert result.stdout == result.stderr == b""
