"""`palo-cpp package`: what it writes, from what, how it goes on; and that hub and folder give a model that answers."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import checkpoints
import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard
from palo_cpp.convert import convert, quantize

from palo_cpp import Palo
from palo_cpp.cli import palo_cpp as group
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.models.carried_models import carry_from
from palo_cpp.models.checksums import SUMS, read_sums, sha256_of
from palo_cpp.models.names import PUBLISHED, HubName
from palo_cpp.models.repository_card import is_ours
from palo_cpp.packaging import TYPES

SMALL_FILES = {
    "PALO-Small-Q4_0.gguf",
    "PALO-Small-Q4_K_M.gguf",
    "PALO-Small-Q8_0.gguf",
    "mmproj-PALO-Small-F16.gguf",
    "mmproj-PALO-Small-Q8_0.gguf",
}
TEXTS = {"README.md", SUMS}


def run(*arguments):
    return CliRunner().invoke(group, ["package", *map(str, arguments)], prog_name="palo-cpp")


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def check_whole(folder: Path) -> None:
    assert read_sums(folder) == {path.name: sha256_of(path) for path in folder.glob("*.gguf")}
    if tool := shutil.which("sha256sum"):
        subprocess.run([tool, "--check", "--strict", "--quiet", SUMS], cwd=folder, check=True)


@pytest.fixture
def package(checkpoint_dir: Path, tmp_path: Path) -> Path:
    """The small model, from its checkpoint, in the usual types."""
    done = run(checkpoint_dir, "-o", tmp_path / "PALO-Small-GGUF")
    assert done.exit_code == 0, done.output
    return tmp_path / "PALO-Small-GGUF"


# ---- what comes out


def test_a_checkpoint_in_every_type(package, checkpoint_dir, tmp_path):
    assert names_in(package) == SMALL_FILES | TEXTS
    check_whole(package)
    made = convert(checkpoint_dir, tmp_path / "alone", outtype="q4_k_m", mmproj_outtype="q8_0")
    for path in made.paths.values():
        assert path.read_bytes() == (package / path.name).read_bytes(), "as `convert` makes it"


def test_an_unquantized_model(model_dir, tmp_path):
    done = run(model_dir, "-o", tmp_path / "x", "--types", "Q8_0, f16,q8_0", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert {Path(file["path"]).name for file in result["files"]} == {
        *("PALO-Small-Q8_0.gguf", "PALO-Small-F16.gguf"),
        *("mmproj-PALO-Small-F16.gguf", "mmproj-PALO-Small-Q8_0.gguf"),
    }
    assert {file["sha256"] for file in result["files"]} == set(read_sums(tmp_path / "x").values())
    check_whole(tmp_path / "x")
    f16 = model_dir / "PALO-Small-F16.gguf"
    assert (tmp_path / "x" / f16.name).read_bytes() == f16.read_bytes()
    same = quantize(f16, tmp_path / "PALO-Small-Q8_0.gguf", "q8_0")
    assert (tmp_path / "x" / same.name).read_bytes() == same.read_bytes()


def test_a_lora_over_its_base(tmp_path):
    folder = checkpoints.write_checkpoint(tmp_path / "adapter", lora=True, clip_inside=False)
    shutil.move(folder / "base", tmp_path / "elsewhere")
    shutil.move(folder / "vision_tower", tmp_path / "tower")
    assert "--base" in run(folder, "-o", tmp_path / "x").stderr
    options = ("--base", tmp_path / "elsewhere", "--vision-tower", tmp_path / "tower", "--name", "mine")
    done = run(folder, "-o", tmp_path / "x", "--types", "q4_0", *options)
    assert done.exit_code == 0, done.output
    assert {"mine-Q4_0.gguf", "mmproj-mine-F16.gguf"} <= names_in(tmp_path / "x")
    assert "--base elsewhere --vision-tower" not in (card := (tmp_path / "x" / "README.md").read_text())
    assert "--vision-tower tower --base elsewhere --name mine" in card and str(tmp_path) not in card


# ---- taken from a hub and from a folder


def ask(model: str, picture) -> str:
    with Palo(model, n_threads=1, local_files_only=True) as palo:
        return palo.ask(picture, "यह क्या है?", lang="hi").text


def test_nano_from_the_hub_and_from_a_folder(hub, cache, tmp_path, picture):
    folder = tmp_path / "PALO-Nano-GGUF"
    assert run("nano", "-o", folder).exit_code == 0
    assert names_in(folder) == {"PALO-Nano-Q8_0.gguf", "mmproj-PALO-Nano-Q8_0.gguf", *TEXTS}
    hub.add("org/PALO-Nano-GGUF", {path.name: path for path in folder.iterdir()})
    pulled = CliRunner().invoke(group, ["pull", "org/PALO-Nano-GGUF", "--yes"])
    assert pulled.exit_code == 0, pulled.output
    with Palo("nano", n_threads=1) as shipped:
        expected = shipped.ask(picture, "यह क्या है?", lang="hi").text
    assert ask("org/PALO-Nano-GGUF", picture) == expected
    shutil.rmtree(cache)
    n_requests = len(hub.requests)
    carry_from(HubName("org/PALO-Nano-GGUF"), folder, cache)
    assert ask("org/PALO-Nano-GGUF:Q8_0", picture) == expected
    assert len(hub.requests) == n_requests


def test_each_type_is_pulled_by_its_name(hub, package, picture):
    hub.add("org/PALO-Small-GGUF", {path.name: path for path in package.iterdir()})
    for outtype in TYPES:
        pulled = CliRunner().invoke(group, ["pull", f"org/PALO-Small-GGUF:{outtype}", "--yes", "--json"])
        names = [Path(path).name for path in json.loads(pulled.stdout)["paths"]]
        assert names == [f"PALO-Small-{outtype.upper()}.gguf", "mmproj-PALO-Small-Q8_0.gguf"]
        with Palo(f"org/PALO-Small-GGUF:{outtype}", n_threads=1, local_files_only=True) as palo:
            assert palo.ask(picture, "?", max_tokens=2).text is not None


# ---- the card


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The package of a checkpoint that lies in a folder named like PALO-7B."""
    folder = checkpoints.write_checkpoint(tmp_path / "PALO-7B")
    done = run(folder, "-o", tmp_path / "PALO-7B-GGUF", "--types", "q4_0")
    assert done.exit_code == 0, done.output
    assert "put a copy of the Llama 2 agreement into it as LICENSE.txt" in done.stderr
    return tmp_path / "PALO-7B-GGUF"


def test_the_card_of_a_published_model(published):
    text = (published / "README.md").read_text()
    head = ModelCard(text).data
    assert (head.license, head.base_model, head.pipeline_tag) == ("llama2", "MBZUAI/PALO-7B", "image-text-to-text")
    assert head.language == list(LANGUAGES)
    for code, score in PUBLISHED["7b"].scores.items():
        assert f"| {LANGUAGES[code].own_name} | {code} | {score:.1f} |" in text
    assert all(f"{each.part}: [{each.name}]({each.url})" in text for each in PUBLISHED["7b"].licenses)
    assert "palo-cpp package PALO-7B -o PALO-7B-GGUF --types q4_0" in text
    n_mib = (published / "PALO-7B-Q4_0.gguf").stat().st_size / 2**20
    assert f"| PALO-7B-Q4_0.gguf | Q4_0 | {n_mib:.1f} MiB | " in text
    assert "Copyright (c) Meta Platforms" in (published / "Notice").read_text()


def test_the_card_of_an_unknown_model(package):
    text = (package / "README.md").read_text()
    head = ModelCard(text).data
    assert (head.license, head.base_model) == ("unknown", None)
    assert "No scores of this model are known" in text and "ask whoever published it" in text
    assert not (package / "Notice").exists()


def test_a_card_that_somebody_changed_stays(package, checkpoint_dir):
    card = package / "README.md"
    before = card.read_text()
    assert is_ours(before) and not is_ours(before + "\n") and not is_ours(before.replace("CPU", "GPU"))
    card.write_text("Ours.\n" + before)
    done = run(checkpoint_dir, "-o", package)
    assert "README.md: was changed and stays as it is; remove it to have it written again" in done.stderr
    assert card.read_text() == "Ours.\n" + before
    card.unlink()
    assert run(checkpoint_dir, "-o", package).exit_code == 0
    assert card.read_text() == before


# ---- again


def test_a_second_run_makes_only_what_is_missing(package, checkpoint_dir):
    inodes = {path: path.stat().st_ino for path in package.glob("*.gguf")}
    damaged, gone = package / "PALO-Small-Q4_0.gguf", package / "mmproj-PALO-Small-Q8_0.gguf"
    expected = damaged.read_bytes()
    damaged.write_bytes(expected[:-1] + b"\xff\xff")
    gone.unlink()
    done = run(checkpoint_dir, "-o", package, "--json")
    files = json.loads(done.stdout)["files"]
    assert {Path(file["path"]) for file in files if file["is_new"]} == {damaged, gone}
    assert "PALO-Small-Q4_0.gguf is not what SHA256SUMS says and is made again" in done.stderr
    assert damaged.read_bytes() == expected
    assert all(path.stat().st_ino == inodes[path] for path in inodes if path not in (damaged, gone))
    check_whole(package)
    assert "Q8_0.gguf, was there" in run(checkpoint_dir, "-o", package).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_interrupted_and_carried_on(checkpoint_dir, tmp_path, number):
    folder = tmp_path / "x"
    command = [sys.executable, "-m", "palo_cpp", "package", str(checkpoint_dir), "-o", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(folder.glob("*.gguf")) and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(number)
    assert set(read_sums(folder)) >= {path.name for path in folder.glob("*.gguf")} != SMALL_FILES
    assert (number == signal.SIGKILL) or names_in(folder) <= SMALL_FILES | TEXTS
    assert run(checkpoint_dir, "-o", folder).exit_code == 0
    assert names_in(folder) == SMALL_FILES | TEXTS
    check_whole(folder)


def test_what_a_killed_run_left_goes(package, checkpoint_dir):
    before = names_in(package)
    for name in ("SHA256SUMS", "README.md"):
        (package / f".{name}.partial-0123abcd").write_text("half")
    assert run(checkpoint_dir, "-o", package).exit_code == 0
    assert names_in(package) == before
    check_whole(package)


# ---- refused


def test_a_quantized_model_at_another_type(package, tmp_path):
    model = package / "PALO-Small-Q8_0.gguf"
    for mmproj in package.glob("mmproj*F16*"):
        mmproj.unlink()
    done = run(model, "-o", tmp_path / "x", "--types", "q4_0,q8_0")
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    assert "expected an unquantized model for --types q4_0,q8_0, got one quantized to q8_0" in done.stderr
    assert not (tmp_path / "x").exists()
    assert run(model, "-o", tmp_path / "x").exit_code == 0
    assert names_in(tmp_path / "x") == {model.name, "mmproj-PALO-Small-Q8_0.gguf", *TEXTS}


@pytest.mark.parametrize("types", ["q9_0", "q4_0,,x", ",", "iq1_s"])
def test_types_that_are_none(checkpoint_dir, tmp_path, types):
    done = run(checkpoint_dir, "-o", tmp_path / "x", "--types", types)
    assert done.exit_code == 2
    assert "expected types with commas between them" in done.stderr


def test_one_model_a_folder(package, checkpoint_dir):
    done = run("nano", "-o", package)
    assert "expected a folder for PALO-Nano alone, got PALO-Small-Q4_0.gguf in it" in done.stderr
    (package / "PALO-Small-Q2_K.gguf").write_bytes(b"mine")
    done = run(checkpoint_dir, "-o", package)
    assert "PALO-Small-Q2_K.gguf: expected only files that PALO-Small-GGUF/SHA256SUMS lists" in done.stderr
    assert (package / "PALO-Small-Q2_K.gguf").read_bytes() == b"mine"


def test_another_checkpoint_of_that_name(package, tmp_path):
    other = checkpoints.write_checkpoint(tmp_path / "PALO-Small", seed=1)
    (package / "PALO-Small-Q4_0.gguf").unlink()
    done = run(other, "-o", package)
    assert "expected a file of the same checkpoint as PALO-Small-Q4_0.gguf, got one of another" in done.stderr
    assert not (package / "PALO-Small-Q4_0.gguf").exists()


def test_what_cannot_be_packaged(checkpoint_dir, model_dir, tmp_path):
    assert "expected a folder, a GGUF file or ORG/NAME" in run("nowhere", "-o", tmp_path / "x").stderr
    assert "--base: expected a checkpoint to go with it" in run(model_dir, "-o", "x", "--base", checkpoint_dir).stderr
    assert "--name: expected letters" in run(model_dir, "-o", "x", "--name", "a/b").stderr
    assert "lies inside the source" in run(checkpoint_dir, "-o", checkpoint_dir / "x").stderr
    (tmp_path / "file").write_text("x")
    assert "expected a folder, got a file" in run(model_dir, "-o", tmp_path / "file").stderr
    assert run(model_dir).exit_code == 2
    assert not (tmp_path / "x").exists()


def test_too_little_room(checkpoint_dir, model_dir, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage._replace(free=17 << 20))
    for model in (checkpoint_dir, model_dir):
        assert "GiB of free space" in run(model, "-o", tmp_path / "x").stderr
        assert not (tmp_path / "x").exists()
