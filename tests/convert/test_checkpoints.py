"""support/checkpoints.py: the layouts are the published ones, and every way of writing gives the same model."""

from __future__ import annotations

import collections
import hashlib
import io
import json
import pickle
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import DATA, PROJECTORS, SMALL, write_checkpoint
from click.testing import CliRunner
from golden_files import read_answer_checksums, read_answers
from make_checkpoint import main
from random_model import draw, plan_model, plan_vision_model
from tensor_files import to_bf16_bits

INSIDE = "model.vision_tower.vision_tower."


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """A second, independent reading of the format: u64 length, JSON header, data."""
    content = path.read_bytes()
    (n_header,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n_header])
    assert header.pop("__metadata__") == {"format": "pt"}
    data, end, tensors = content[8 + n_header :], 0, {}
    for name, entry in header.items():
        begin, stop = entry["data_offsets"]
        assert begin == end, "the format allows no holes"
        end = stop
        tensors[name] = to_floats(data[begin:stop], entry["dtype"]).reshape(entry["shape"])
    assert end == len(data)
    return tensors


def to_floats(data: bytes, dtype: str) -> np.ndarray:
    if dtype in ("BF16", "BFloat16Storage"):
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    types = {
        "F32": "<f4",
        "F16": "<f2",
        "I64": "<i8",
        "FloatStorage": "<f4",
        "HalfStorage": "<f2",
        "LongStorage": "<i8",
    }
    values = np.frombuffer(data, types[dtype])
    return values if values.dtype.kind == "i" else values.astype(np.float32)


def read_torch_zip(path: Path) -> dict[str, np.ndarray]:
    """Read a zip pickle by what its opcodes ask for; anything but tensors is an assertion."""
    archive = zipfile.ZipFile(path)
    (entry,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    root = entry.removesuffix("/data.pkl")
    assert archive.read(f"{root}/version") == b"3\n"
    assert archive.read(f"{root}/byteorder") == b"little"

    def rebuild(storage: tuple[str, np.ndarray], offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
        values = storage[1][offset:]
        return np.array(np.lib.stride_tricks.as_strided(values, size, [step * values.itemsize for step in stride]))

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            known = {
                ("torch._utils", "_rebuild_tensor_v2"): rebuild,
                ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
                ("collections", "OrderedDict"): collections.OrderedDict,
            }
            return name if module == "torch" and name.endswith("Storage") else known[module, name]

        def persistent_load(self, pid: Any) -> tuple[str, np.ndarray]:
            kind, storage, key, device, n_elements = pid
            assert (kind, device) == ("storage", "cpu")
            values = to_floats(archive.read(f"{root}/data/{key}"), storage)
            assert len(values) == n_elements
            return storage, values

    tensors: dict[str, np.ndarray] = Unpickler(io.BytesIO(archive.read(entry))).load()
    return tensors


def expected_tensors(projector: str) -> dict[str, np.ndarray]:
    size = SMALL.for_projector(projector)
    vision = {INSIDE + name: values for name, values in draw(plan_vision_model(size), 0).items()}
    return {**draw(plan_model(size, projector), 0), **vision}


def assert_same(tensors: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert tensors.keys() == expected.keys()
    for name, values in expected.items():
        assert tensors[name].shape == values.shape, name
        assert np.array_equal(tensors[name], values), name


def test_our_reader_of_pickles_reads_the_real_torch_save() -> None:
    tensors = read_torch_zip(DATA / "torch_saved.bin")
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    for name in ("f32", "f16", "bf16", "parameter"):
        assert np.array_equal(tensors[name], grid), name
    assert np.array_equal(tensors["transposed"], grid.T)
    assert np.array_equal(tensors["view"], grid[1:, 1:3])
    assert tensors["i64"].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert tensors["scalar"] == np.float32(4.59375)
    assert tensors["empty"].shape == (0, 4)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("weights", ["safetensors", "pickle"])
def test_every_file_type_holds_the_same_values(weights: str, dtype: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, weights=weights, dtype=dtype, buffers=False)
    path = tmp_path / ("model.safetensors" if weights == "safetensors" else "pytorch_model.bin")
    tensors = (read_safetensors if weights == "safetensors" else read_torch_zip)(path)
    assert_same(tensors, expected_tensors("ldpnet"))


@pytest.mark.parametrize("weights", ["safetensors", "pickle"])
def test_shards(weights: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, weights=weights, n_shards=3, buffers=False, projector="mlp2x_gelu")
    (index_path,) = tmp_path.glob("*.index.json")
    index = json.loads(index_path.read_text())
    tensors: dict[str, np.ndarray] = {}
    for file_name in sorted(set(index["weight_map"].values())):
        shard = (read_safetensors if weights == "safetensors" else read_torch_zip)(tmp_path / file_name)
        assert all(index["weight_map"][name] == file_name for name in shard)
        tensors |= shard
    assert_same(tensors, expected_tensors("mlp2x_gelu"))
    assert index["metadata"]["total_size"] == sum(values.nbytes for values in tensors.values())


@pytest.mark.parametrize("projector", PROJECTORS)
def test_published_names(projector: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, projector=projector)
    names = read_safetensors(tmp_path / "model.safetensors").keys()
    stem = "model.mm_projector."
    some = {
        "linear": {"weight": [256, 64]},
        "identity": {},
        "mlp2x_gelu": {"0.weight": [256, 64], "2.bias": [256]},
        "mlp3x_gelu": {"4.weight": [256, 256]},
        "ldpnet": {"model.mlp.1.weight": [256, 64], "model.mb_block.2.block.1.fc1.weight": [64, 256, 1, 1]},
        "ldpnetv2": {"mlp.mlp.0.weight": [256, 64], "peg.peg.0.weight": [256, 1, 3, 3]},
    }[projector]
    shapes = {name: list(values.shape) for name, values in expected_tensors(projector).items()}
    for name, shape in some.items():
        assert shapes[stem + name] == shape
    assert bool(some) == any(name.startswith(stem) for name in names)
    assert {"model.embed_tokens.weight", "model.layers.1.self_attn.rotary_emb.inv_freq", "lm_head.weight"} <= names
    assert f"{INSIDE}vision_model.pre_layrnorm.bias" in names
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["mm_projector_type"]) == ("palo", projector)


def test_clip_apart(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "whole", clip_inside=False)
    whole = read_safetensors(tmp_path / "whole" / "vision_tower" / "model.safetensors")
    assert {"logit_scale", "text_projection.weight", "text_model.final_layer_norm.bias"} <= whole.keys()
    assert whole["logit_scale"].shape == ()
    write_checkpoint(tmp_path / "half", clip_inside=False, clip_text_half=False)
    half = read_safetensors(tmp_path / "half" / "vision_tower" / "model.safetensors")
    assert all(name.startswith("vision_model.") for name in half)
    assert_same(half, {name: whole[name] for name in half})
    main_tensors = read_safetensors(tmp_path / "half" / "model.safetensors")
    assert not any("vision" in name for name in main_tensors)


def test_lora_and_lone_projector(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "lora", lora=True, weights="pickle", projector="mlp2x_gelu")
    adapter = read_torch_zip(tmp_path / "lora" / "adapter_model.bin")
    stem = "base_model.model.model.layers.0.mlp.down_proj"
    assert adapter[f"{stem}.lora_A.weight"].shape == (8, 512)
    assert adapter[f"{stem}.lora_B.weight"].shape == (256, 8)
    trained = read_torch_zip(tmp_path / "lora" / "non_lora_trainables.bin")
    assert "base_model.model.model.mm_projector.2.weight" in trained
    write_checkpoint(tmp_path / "lone", lone_projector=True)
    assert all(
        name.startswith("model.mm_projector.") for name in read_torch_zip(tmp_path / "lone" / "mm_projector.bin")
    )
    assert "model.norm.weight" in read_safetensors(tmp_path / "lone" / "base" / "model.safetensors")
    assert not list((tmp_path / "lone").glob("*.safetensors"))


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    def hashes(folder: Path) -> list[str]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    for weights in ("safetensors", "pickle"):
        first = write_checkpoint(tmp_path / f"{weights}1", weights=weights, lora=True)
        assert hashes(first) == hashes(write_checkpoint(tmp_path / f"{weights}2", weights=weights, lora=True))


def test_seeds_and_grids_differ(tmp_path: Path) -> None:
    odd = replace(SMALL, image_size=70)
    for name, options in {"a": {}, "b": {"seed": 1}, "c": {"size": odd}}.items():
        write_checkpoint(tmp_path / name, **options)  # type: ignore[arg-type]  # keywords of several types
    a, b, c = (read_safetensors(tmp_path / name / "model.safetensors") for name in "abc")
    assert not np.array_equal(a["lm_head.weight"], b["lm_head.weight"])
    assert np.array_equal(a["lm_head.weight"], c["lm_head.weight"])
    assert c[f"{INSIDE}vision_model.embeddings.position_embedding.weight"].shape == (26, 64)


def test_values_are_exact_in_every_dtype() -> None:
    for values in expected_tensors("ldpnet").values():
        assert np.array_equal(values.astype(np.float16).astype(np.float32), values)
        assert np.array_equal((to_bf16_bits(values).astype(np.uint32) << 16).view(np.float32), values)


def test_goldens_belong_to_these_weights() -> None:
    checksums = read_answer_checksums()
    for answer in read_answers():
        assert answer.model.weights_checksum() == checksums[answer.name], "numpy draws other weights than it did"


def test_command(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path / "tiny"), "--projector", "mlp2x_gelu", "--weights", "pickle"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "tiny" / "pytorch_model.bin").exists()
    assert json.loads((tmp_path / "tiny" / "config.json").read_text())["mm_projector_type"] == "mlp2x_gelu"
