"""pull, ls, rm and verify against the hub of the tests, and from nothing to an answer."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import pytest
from click.testing import CliRunner
from hub_pulls import interrupt, publish
from huggingface_hub import constants, scan_cache_dir, snapshot_download
from local_hub import Fault, LocalHub

from palo_cpp.cli import downloading, open_model
from palo_cpp.cli import palo_cpp as group
from palo_cpp.models.checkpoint_files import weight_files

NAME = "org/small"
TOWER = "org/tower"


def run(*arguments, **extra):
    return CliRunner().invoke(group, [str(argument) for argument in arguments], prog_name="palo-cpp", **extra)


def ask(model: str, image: Path) -> str:
    """An answer of the model that is there."""
    done = run("ask", image, "?", "-m", model, "-n", "3", "-t", "1", "--json")
    assert done.exit_code == 0, done.output
    return str(json.loads(done.stdout)["text"])


@pytest.fixture
def photo(tmp_path, picture) -> Path:
    from PIL import Image

    Image.fromarray(picture).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def on_hub(hub: LocalHub, model_dir: Path) -> dict[str, Path]:
    files = {path.name: path for path in sorted(model_dir.glob("*.gguf"))}
    hub.add(NAME, {**files, "README.md": b"# Small"})
    return files


# ---- pull


def test_from_nothing_to_an_answer(cache, on_hub, photo):
    done = run("pull", NAME, "--yes", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["n_bytes_missing"] == 0
    assert {Path(path).name for path in result["paths"]} == set(on_hub)
    assert not scan_cache_dir(cache).warnings
    ask(NAME, photo)
    assert "palo-cpp chat photo.jpg -m org/small" in run("pull", NAME).stdout


LAYOUTS = pytest.mark.parametrize(
    "layout",
    [
        {"weights": "pickle", "n_shards": 3, "clip_inside": False},
        {"weights": "safetensors", "n_shards": 2, "clip_inside": False},
        {"weights": "safetensors", "lora": True, "clip_inside": False},
    ],
    ids=["pickles", "safetensors", "lora"],
)


@LAYOUTS
def test_one_command_from_nothing_to_an_answer(hub, tmp_path, photo, layout, monkeypatch):
    folder = checkpoints.write_checkpoint(tmp_path / "Small", **layout)
    publish(hub, folder, vision_tower=TOWER, **({"base": "org/base"} if "lora" in layout else {}))
    for module in (open_model, downloading):
        monkeypatch.setattr(module, "is_terminal", lambda _stream: True)
    done = run("ask", photo, "?", "-m", f"{NAME}:Q4_0", "-n", "2", "-t", "1", "--json", input="y\n")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["text"]
    for said in ("to fetch: ", "converted to Q4_0: ", "disk: ", "memory to run it: ", "Fetch it? [Y/n]"):
        assert said in done.stderr


@LAYOUTS
def test_from_a_checkpoint_to_an_answer(hub, cache, tmp_path, photo, layout):
    folder = checkpoints.write_checkpoint(tmp_path / "Small", **layout)
    publish(hub, folder, vision_tower=TOWER, **({"base": "org/base"} if "lora" in layout else {}))
    done = run("pull", NAME, "--yes", "--outtype", "q8_0", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert len(result["parts"]) == 2 + ("lora" in layout)
    assert Path(result["paths"][0]).name.endswith("Q8_0.gguf")
    ask(f"{NAME}:Q8_0", photo)
    assert not list(cache.glob("models--*")), "the checkpoint was to go"
    served = hub.n_bytes_served()
    assert run("pull", NAME, "--outtype", "q8_0").exit_code == 0
    assert hub.n_bytes_served() == served


def test_a_kept_checkpoint_and_somebody_elses_tower(hub, cache, tmp_path):
    publish(hub, checkpoints.write_checkpoint(tmp_path / "Small", clip_inside=False), vision_tower=TOWER)
    snapshot_download(TOWER)
    assert run("pull", NAME, "--yes", "--outtype", "q8_0").exit_code == 0
    assert [path.name for path in cache.glob("models--*")] == ["models--org--tower"]
    assert run("rm", NAME).exit_code == 0
    assert run("pull", NAME, "--yes", "--outtype", "q8_0", "--keep-checkpoint").exit_code == 0
    assert len(list(cache.glob("models--*"))) == 2


def test_a_plan_fetches_nothing(hub, cache, on_hub):
    done = run("pull", NAME, "--plan")
    assert done.exit_code == 0
    assert all(name in done.stdout for name in on_hub)
    assert "to fetch: " in done.stdout
    assert hub.n_bytes_served() == 0
    assert not cache.exists()


@pytest.mark.usefixtures("on_hub")
def test_without_a_terminal_only_yes_fetches(hub):
    done = run("pull", NAME)
    assert (done.exit_code, hub.n_bytes_served()) == (1, 0)
    assert "expected --yes where nobody can be asked" in done.stderr


@pytest.mark.usefixtures("on_hub")
@pytest.mark.parametrize(("answer", "exit_code"), [("y\n", 0), ("n\n", 130)])
def test_asks_first(hub, monkeypatch, answer, exit_code):
    monkeypatch.setattr(downloading, "is_terminal", lambda _stream: True)
    done = run("pull", NAME, input=answer)
    assert done.exit_code == exit_code
    assert "Fetch it? [Y/n]" in done.stderr
    assert (hub.n_bytes_served() > 0) == (exit_code == 0)


@pytest.mark.usefixtures("on_hub")
def test_a_question_to_a_model_that_is_not_here_offers_it(hub, photo, monkeypatch):
    done = run("ask", photo, "?", "-m", NAME)
    assert "run `palo-cpp pull org/small` first" in done.stderr
    assert hub.requests == []
    monkeypatch.setattr(open_model, "is_terminal", lambda _stream: True)
    monkeypatch.setattr(downloading, "is_terminal", lambda _stream: True)
    done = run("ask", photo, "?", "-m", NAME, "-n", "2", "-t", "1", input="y\n")
    assert done.exit_code == 0, done.output
    assert hub.n_bytes_served() > 0


def test_names_that_are_none(hub):
    for name in ("9b", "a/b/c", "../x"):
        assert (
            "model: expected mobile, 7b, 13b, viscpm, viscpm-zhplus, viscpm-v1 or ORG/NAME of the hub"
            in run("pull", name, "--yes").stderr
        )
    assert hub.requests == []


@pytest.mark.usefixtures("on_hub")
def test_doctor_looks_into_the_cache(hub):
    done = run("doctor", "-m", NAME)
    assert done.exit_code == 1
    assert f"run `palo-cpp pull {NAME}` first" in done.stdout and hub.requests == []
    snapshot_download(NAME)
    done = run("doctor", "-m", NAME)
    assert done.exit_code == 0
    assert "language model, goes with mmproj-PALO-Small-F16.gguf" in done.stdout


@pytest.mark.usefixtures("on_hub")
def test_types():
    done = run("pull", f"{NAME}:Q2_K", "--yes")
    assert "expected one of F16, got Q2_K" in done.stderr
    assert run("pull", NAME, "--outtype", "f16", "--yes").exit_code == 0


def test_files_that_a_conversion_needs():
    both = ["model.safetensors", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "README.md"]
    assert weight_files(both) == ["model.safetensors"]
    shards = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    assert weight_files([*shards, "pytorch_model.bin.index.json"]) == ["pytorch_model.bin.index.json", *shards]
    lora = ["adapter_model.bin", "adapter_model.safetensors", "non_lora_trainables.bin", "training_args.bin"]
    assert weight_files(lora) == ["adapter_model.safetensors", "non_lora_trainables.bin"]


@pytest.mark.usefixtures("on_hub")
def test_on_a_stick(hub, tmp_path, photo, monkeypatch):
    stick = tmp_path / "stick"
    assert run("pull", NAME, "--to", stick, "--yes").exit_code == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    n_requests = len(hub.requests)
    again = run("pull", NAME, "--to", stick, "--json")
    assert again.exit_code == 0, again.output
    assert {Path(path).name for path in json.loads(again.stdout)["copies"]} < {path.name for path in stick.iterdir()}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "elsewhere" / "hub"))
    assert "HF_HUB_OFFLINE is set" in run("pull", NAME, "--yes").stderr
    done = run("pull", NAME, "--from", stick)
    assert done.exit_code == 0, done.output
    ask(NAME, photo)
    assert len(hub.requests) == n_requests


@pytest.mark.usefixtures("hub")
def test_options_that_exclude_each_other(tmp_path):
    assert (
        "--low-disk: removes what --keep-checkpoint keeps"
        in run("pull", NAME, "--low-disk", "--keep-checkpoint", "--yes").stderr
    )
    assert "--from: takes a model from a folder" in run("pull", NAME, "--from", tmp_path, "--plan").stderr


@pytest.mark.usefixtures("on_hub")
@pytest.mark.parametrize("is_plan", [True, False], ids=["plan", "json"])
def test_says_what_it_needs(is_plan, on_hub):
    done = run("pull", NAME, "--json", *(["--plan"] if is_plan else ["--yes"]))
    result = json.loads(done.stdout)
    n_bytes = sum(path.stat().st_size for path in on_hub.values())
    assert result["n_bytes_memory"] == result["n_bytes"] == n_bytes
    assert (result["n_bytes_missing"], result["n_bytes_result"]) == (n_bytes if is_plan else 0, 0)


def test_without_a_name_the_recommended_model_is_offered(hub, monkeypatch):
    monkeypatch.setattr("palo_cpp.cli.recommend.recommendation", lambda _language: RECOMMENDATION)
    monkeypatch.setattr("palo_cpp.cli.recommend.as_text", lambda _found, _width: "the table")
    done = run("pull")
    assert (
        "expected a model where nobody can be asked, got none; try `palo-cpp pull 7b --outtype q4_k_m`" in done.stderr
    )
    monkeypatch.setattr("palo_cpp.cli.pull.is_terminal", lambda _stream: True)
    done = run("pull", "--plan")
    assert "the table" in done.stderr
    assert "no repository MBZUAI/PALO-7B" in done.stderr
    assert hub.requests


RECOMMENDATION = SimpleNamespace(
    chosen=SimpleNamespace(name="7b", outtype="q4_k_m"), command="palo-cpp pull 7b --outtype q4_k_m"
)


# ---- ls, rm, verify


@pytest.mark.usefixtures("on_hub")
def test_lists_what_hf_downloaded():
    assert run("ls").stdout == ""
    snapshot_download(NAME)
    [model] = json.loads(run("ls", "--json").stdout)
    assert (model["name"], model["outtype"], model["is_complete"]) == (f"{NAME}:F16", "F16", True)
    assert "bn" in model["languages"]
    assert f"{NAME}:F16  " in run("ls").stdout


def test_lists_what_is_here_in_parts(hub, content):
    hub.add("org/name", {"large.bin": content})
    interrupt(hub)
    [model] = json.loads(run("ls", "--json").stdout)
    assert model["name"] == "org/name/large.bin"
    assert 0 < model["n_bytes_here"] < model["n_bytes"] == len(content)
    assert "% has arrived; pull it again" in run("ls").stdout


def test_rm_frees_what_no_other_revision_needs(hub, cache, on_hub):
    assert run("pull", NAME, "--yes").exit_code == 0
    hub.add(NAME, {**hub.repositories[NAME].files, "README.md": b"new"})
    assert run("pull", NAME, "--yes").exit_code == 0
    done = run("rm", f"{NAME}:F16", "--json")
    assert json.loads(done.stdout)["n_bytes_freed"] == sum(path.stat().st_size for path in on_hub.values())
    assert not list(cache.glob("models--*"))
    assert "expected its files in the cache, got none" in run("rm", NAME).stderr


def test_rm_of_one_type_keeps_the_other(hub, cache, on_hub):
    text = next(name for name in on_hub if not name.startswith("mmproj"))
    hub.add(NAME, {**on_hub, text.replace("F16", "Q8_0"): on_hub[text], "x-Q4_0.gguf": b"other content"})
    for outtype in ("F16", "Q8_0", "Q4_0"):
        assert run("pull", f"{NAME}:{outtype}", "--yes").exit_code == 0
    assert json.loads(run("rm", f"{NAME}:F16", "--json").stdout)["n_bytes_freed"] == 0, "Q8_0 has the same content"
    assert {model["name"] for model in json.loads(run("ls", "--json").stdout)} == {f"{NAME}:Q8_0", f"{NAME}:Q4_0"}
    assert not scan_cache_dir(cache).warnings
    assert json.loads(run("rm", f"{NAME}:Q4_0", "--json").stdout)["n_bytes_freed"] == 13


def test_rm_of_what_has_arrived_in_part(hub, content):
    hub.add("org/name", {"large.bin": content})
    interrupt(hub)
    assert run("rm", "org/name").exit_code == 0
    assert json.loads(run("ls", "--json").stdout) == []


@pytest.mark.usefixtures("on_hub")
def test_verify_names_what_is_damaged(hub):
    paths = [Path(path) for path in json.loads(run("pull", NAME, "--yes", "--json").stdout)["paths"]]
    done = run("verify", NAME)
    assert (done.exit_code, done.stdout.count("whole")) == (0, 2)
    content = paths[0].resolve()
    with content.open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff\x00\xff")
    done = run("verify", NAME, "--json", "--remove-damaged")
    assert done.exit_code == 1
    assert [file["is_damaged"] for file in json.loads(done.stdout)].count(True) == 1
    served = hub.n_bytes_served()
    assert run("pull", NAME, "--yes").exit_code == 0
    assert hub.n_bytes_served() == served + content.stat().st_size
    assert run("verify", NAME).exit_code == 0


@pytest.mark.usefixtures("on_hub")
def test_offline_lists_and_checks(hub, monkeypatch):
    assert run("pull", NAME, "--yes").exit_code == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    n_requests = len(hub.requests)
    assert run("ls").exit_code == run("verify", NAME).exit_code == 0
    assert "HF_HUB_OFFLINE is set" in run("pull", NAME).stderr
    assert len(hub.requests) == n_requests


@pytest.mark.usefixtures("on_hub")
def test_an_interrupted_pull_goes_on(hub, on_hub):
    hub.faults = [Fault("/lfs/", status=500)]
    assert "what has arrived is kept" in run("pull", NAME, "--yes").stderr
    hub.faults = []
    assert run("pull", NAME, "--yes").exit_code == 0
    assert hub.n_bytes_served() == sum(path.stat().st_size for path in on_hub.values())
