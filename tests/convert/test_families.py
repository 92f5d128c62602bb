"""The seam between the converter and a family: a second family fits without a change outside of it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import palo_cpp.convert
import pytest
from converted_files import keys, read_gguf
from echo_checkpoint import N_LAYER, N_QUERY, SCALE, EchoFamily, echo_tensors, write_echo_checkpoint
from palo_cpp.convert import convert, quantize, summarize
from palo_cpp.convert.families import FAMILIES

from palo_cpp.errors import ArgumentError, ModelFormatError


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> EchoFamily:
    family = EchoFamily()
    monkeypatch.setattr("palo_cpp.convert.families.FAMILIES", (*FAMILIES, family))
    return family


@pytest.mark.usefixtures("echo")
def test_values_are_transformed_and_written(tmp_path):
    source, tensors = write_echo_checkpoint(tmp_path / "echo-chat"), echo_tensors()
    done = convert(source, tmp_path / "out", outtype="f32", mmproj_outtype="f16")
    text, vision = read_gguf(done.model_path), read_gguf(done.mmproj_path)
    expected = tensors["query"].astype(np.float32) + tensors["vpm.positions.B.weight"][2:-1].astype(np.float32)
    np.testing.assert_array_equal(vision["v.query"], expected)
    for i in range(N_LAYER):
        name = f"llm.encoder.layers.{i}.project_q.weight"
        np.testing.assert_array_equal(text[f"blk.{i}.attn_q.weight"], tensors[name].astype(np.float32) * SCALE)
    np.testing.assert_array_equal(text["token_embd.weight"], tensors["llm.input_embedding.weight"])


@pytest.mark.usefixtures("echo")
def test_keys_names_and_plan_are_the_familys(tmp_path):
    done = convert(write_echo_checkpoint(tmp_path / "echo-chat"), tmp_path / "out", outtype="q8_0")
    assert [path.name for path in done.paths.values()] == ["Echo-Chat-Q8_0.gguf", "mmproj-Echo-Chat-F16.gguf"]
    text, vision = (keys(path) for path in done.paths.values())
    assert (text["general.architecture"], vision["general.architecture"]) == ("echo", "echo-vision")
    assert text["palo.pair_id"] == vision["palo.pair_id"] and len(text["palo.pair_id"]) == 32
    assert text["general.languages"] == vision["general.languages"] == ["zh", "en"]
    assert summarize(done.model_path).languages == ["zh", "en"]
    plan = done.plan.to_dict()
    assert plan["n_query"] == N_QUERY and plan["warnings"] == ["it only echoes"]
    assert plan["dropped"] == [{"name": "vpm.mim_head.weight", "reason": "only for training"}]
    assert plan["text"]["types"] == {"Q8_0": 1 + N_LAYER, "F32": N_LAYER} and "4 queries" in str(done.plan)


@pytest.mark.usefixtures("echo")
def test_quantize_takes_the_familys_files(tmp_path):
    done = convert(write_echo_checkpoint(tmp_path / "echo"), tmp_path / "out", outtype="f32", mmproj_outtype="f32")
    text, vision = (quantize(path, tmp_path, "q8_0") for path in done.paths.values())
    assert summarize(text).types == {"Q8_0": 1 + N_LAYER, "F32": N_LAYER}
    assert summarize(vision).types == {"F32": 1}  # queries are f32 whatever the file is
    assert summarize(text).pair_id == summarize(done.model_path).pair_id


@pytest.mark.usefixtures("echo")
def test_types_that_llama_cpp_alone_writes_are_refused(tmp_path):
    source = write_echo_checkpoint(tmp_path / "echo")
    with pytest.raises(ArgumentError, match="--outtype: expected one of f32, f16, bf16, q8_0, got 'q4_k_m'"):
        convert(source, tmp_path / "out", outtype="q4_k_m")
    done = convert(source, tmp_path / "out")
    with pytest.raises(ArgumentError, match="expected one of f32, f16, bf16, q8_0, got 'q4_0'"):
        quantize(done.model_path, tmp_path, "q4_0")


@pytest.mark.usefixtures("echo")
def test_operands_are_accounted_for_and_count_for_the_pair_id(tmp_path):
    def pair_id(name: str, **changes) -> str:
        source = write_echo_checkpoint(tmp_path / name, echo_tensors() | changes)
        return summarize(convert(source, tmp_path / f"{name}-out").model_path).pair_id

    positions = echo_tensors()["vpm.positions.B.weight"]
    assert pair_id("a") == pair_id("b") != pair_id("c", **{"vpm.positions.B.weight": positions * 2})
    lacking = echo_tensors() | {"extra": positions, "query": positions}
    del lacking["vpm.positions.B.weight"]
    with pytest.raises(ModelFormatError) as caught:
        convert(write_echo_checkpoint(tmp_path / "d", lacking), tmp_path / "out")
    assert "1 missing: vpm.positions.B.weight" in str(caught.value)
    assert "1 wrong shape: query (expected [4, 32], got [7, 32])" in str(caught.value)
    assert "1 left over: extra" in str(caught.value)


@pytest.mark.parametrize(
    "fold", [lambda values: values[1:], lambda values: values.astype(np.float64)], ids=["shape", "type"]
)
def test_a_transformation_must_give_the_files_shape_in_f32(tmp_path, echo, fold):
    echo.fold = fold
    with pytest.raises(ModelFormatError, match=r"blk\.0\.attn_q\.weight: expected its transformation to give float32"):
        convert(write_echo_checkpoint(tmp_path / "echo"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- imports --------------------------------------------------------------------------------------------------------

CONVERT = Path(palo_cpp.convert.__file__).parent
ALLOWED = {"errors", "partial_files", "machine", "child_process", "ggml", "languages", "families"}


def imported(path: Path) -> set[str]:
    """What a file of convert/ imports, by absolute names, wherever in the file."""
    package = ("palo_cpp", "convert", *path.relative_to(CONVERT).parent.parts)
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*stem, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def test_convert_imports_only_what_lies_below_it():
    for path in CONVERT.rglob("*.py"):
        allowed = ALLOWED | {"convert"} | ({"models"} if path == CONVERT / "__init__.py" else set())
        rooms = {name.split(".")[1] for name in imported(path) if name.startswith("palo_cpp.")}
        assert rooms <= allowed, path


def test_the_pipeline_knows_no_family():
    for path in CONVERT.glob("*.py"):
        assert not any("families.palo" in name for name in imported(path)), path
