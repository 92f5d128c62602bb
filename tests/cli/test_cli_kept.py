"""ls, show, rm and verify: of models of the hub, with links and without, converted, carried, and in parts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import checkpoints
import pytest
from click.testing import CliRunner
from hub_pulls import interrupt
from huggingface_hub import constants, hf_hub_download, scan_cache_dir, snapshot_download
from local_hub import LocalHub

from palo_cpp.cli import ls
from palo_cpp.cli import palo_cpp as group
from palo_cpp.models.carried_models import carry_from
from palo_cpp.models.checksums import SUMS, put_sums, write_sums
from palo_cpp.models.hub_models import CACHE_ONLY, cached_model, converted_folder
from palo_cpp.models.names import NANO_FOLDER, HubName

NAME = "org/small"
NANO = HubName("org/PALO-Nano")
TEXT, MMPROJ = "PALO-Small-F16.gguf", "mmproj-PALO-Small-F16.gguf"


def run(*arguments, **extra):
    return CliRunner().invoke(group, [str(argument) for argument in arguments], prog_name="palo-cpp", **extra)


def listed() -> dict[str, dict]:
    return {model["name"]: model for model in json.loads(run("ls", "--json").stdout)}


def spoil(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"\0x\0")


@pytest.fixture
def on_hub(hub: LocalHub, model_dir: Path) -> dict[str, Path]:
    files = {path.name: path for path in sorted(model_dir.glob("*.gguf"))}
    hub.add(NAME, {**files, "README.md": b"# Small"})
    return files


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)


@pytest.fixture
def carried(cache: Path) -> Path:
    """The folder of Nano, as if it had been converted here."""
    return carry_from(NANO, NANO_FOLDER, cache).text.parent


# ---- ls


@pytest.mark.usefixtures("on_hub", "carried")
def test_every_kind_of_model_is_listed(hub, content, tmp_path):
    snapshot_download(NAME)
    hub.add("org/name", {"large-Q8_0.bin": content, "large.bin": content})
    interrupt(hub)
    checkpoint = checkpoints.write_checkpoint(tmp_path / "Two", n_shards=2)
    hub.add("org/checkpoint", {path.name: path for path in checkpoint.iterdir() if path.is_file()})
    hub.add("org/bert", {"config.json": b"{}", "model.safetensors": b"x"})
    snapshot_download("org/checkpoint", ignore_patterns="*-00002-of-00002.*")
    snapshot_download("org/bert")
    models = listed()
    assert set(models) == {"org/PALO-Nano:Q8_0", f"{NAME}:F16", "org/checkpoint", "org/name/large.bin"}
    assert {name for name, model in models.items() if model["is_complete"]} == {"org/PALO-Nano:Q8_0", f"{NAME}:F16"}
    assert models["org/checkpoint"]["problem"] == "1 of 2 files of weights are missing; pull it again"
    assert models["org/checkpoint"]["outtype"] == "checkpoint"
    assert models["org/PALO-Nano:Q8_0"]["n_bytes"] == sum(path.stat().st_size for path in NANO_FOLDER.glob("*.gguf"))
    lines = run("ls").stdout.splitlines()
    assert lines[0].split() == ["NAME", "TYPE", "SIZE", "USED", "LANGUAGES", "STATE"]
    [nano] = [line for line in lines if "Nano" in line]
    assert nano.split()[1:3] == ["Q8_0", "10.9"] and nano.endswith("ur ja  complete")
    [part] = [line for line in lines if "large.bin" in line]
    assert part.endswith("% has arrived; pull it again")


@pytest.mark.usefixtures("on_hub")
def test_a_half_is_not_complete():
    hf_hub_download(NAME, TEXT)
    assert listed()[f"{NAME}:F16"]["problem"] == f"its mmproj file is missing; pull {NAME}:F16 again"
    hf_hub_download(NAME, MMPROJ)
    assert listed()[f"{NAME}:F16"]["is_complete"]


@pytest.mark.usefixtures("on_hub")
def test_a_damaged_header_is_not_complete():
    with (Path(snapshot_download(NAME)) / TEXT).open("r+b") as file:
        file.truncate(3000)
    assert listed()[f"{NAME}:F16"]["problem"] == "its file is damaged; `palo-cpp verify` says how"


def test_revisions_with_the_same_contents_are_one(hub, on_hub):
    snapshot_download(NAME)
    hub.add(NAME, {**on_hub, "README.md": b"new"})
    snapshot_download(NAME)
    assert len(json.loads(run("ls", "--json").stdout)) == 1
    assert len(json.loads(run("show", NAME, "--json").stdout)) == 2


@pytest.mark.usefixtures("carried")
@pytest.mark.parametrize(("width", "n_lines"), [(120, 2), (60, 4), (30, 6)])
def test_a_narrow_terminal_gets_lines_that_fit(monkeypatch, width, n_lines):
    monkeypatch.setattr(ls, "is_terminal", lambda _stream: True)
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run("ls").stdout.splitlines()
    assert len(lines) == n_lines
    assert max(map(len, lines)) <= max(width, 4 + len("en zh hi es fr ar bn ru ur ja"))


# ---- show


@pytest.mark.usefixtures("carried")
def test_show_takes_names(on_hub):
    for place in ("org/PALO-Nano", "org/PALO-Nano:Q8_0", "nano"):
        [mmproj_or_text, other] = json.loads(run("show", place, "--json").stdout)
        assert {mmproj_or_text["kind"], other["kind"]} == {"text", "mmproj"}
        assert run("show", place).stdout.count("\nkind ") == 2
    done = run("show", NAME)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"model {NAME}: expected its files in the cache, got none; `palo-cpp ls` lists them" in done.stderr
    assert "org/PALO-Nano:Q2_K: expected its files" in run("show", "org/PALO-Nano:Q2_K").stderr
    snapshot_download(NAME)
    assert len(json.loads(run("show", NAME, "org/PALO-Nano", "--json").stdout)) == 2 + len(on_hub)


def test_show_says_what_has_arrived_in_part(hub, content):
    hub.add("org/name", {"large.bin": content})
    interrupt(hub)
    assert "org/name/large.bin, 5.0 MiB: " in run("show", "org/name").stdout
    [part] = json.loads(run("show", "org/name", "--json").stdout)
    assert 0 < part["n_bytes_here"] < part["n_bytes"] and not part["is_complete"]


# ---- verify and rm without links


@pytest.mark.usefixtures("no_links", "on_hub")
def test_verify_and_rm_without_links(hub, cache):
    assert run("pull", NAME, "--yes").exit_code == 0
    paths = cached_model(HubName(NAME), CACHE_ONLY)
    assert not paths.text.is_symlink()
    done = run("verify", NAME)
    assert (done.exit_code, done.stdout.count("whole")) == (0, 2)
    spoil(paths.mmproj)
    done = run("verify", f"{NAME}:F16", "--remove-damaged")
    assert (done.exit_code, done.stdout.count("whole"), done.stdout.count("damaged")) == (1, 1, 1)
    assert not paths.mmproj.exists() and paths.text.exists()
    served = hub.n_bytes_served()
    assert run("pull", NAME, "--yes").exit_code == 0
    assert hub.n_bytes_served() - served == paths.mmproj.stat().st_size
    assert run("verify", NAME).exit_code == 0
    assert not scan_cache_dir(cache).warnings
    n_bytes = paths.text.stat().st_size + paths.mmproj.stat().st_size
    assert json.loads(run("rm", NAME, "--json").stdout)["n_bytes_freed"] == n_bytes
    assert not list(cache.glob("models--*"))


@pytest.mark.usefixtures("no_links", "on_hub")
def test_what_hf_downloaded_without_links_is_unknown():
    snapshot_download(NAME)
    done = run("verify", NAME)
    assert (done.exit_code, done.stdout.count("unknown  ")) == (0, 3)
    assert done.stdout.count(": nobody kept its hash") == 3
    assert {file["expected"] for file in json.loads(run("verify", NAME, "--json").stdout)} == {None}


# ---- what was converted or carried


def test_verify_of_what_was_carried(carried):
    done = run("verify", NANO.repository)
    assert (done.exit_code, done.stdout.count("whole")) == (0, 2)
    [text] = carried.glob("PALO*.gguf")
    spoil(text)
    done = run("verify", "org/PALO-Nano:Q8_0", "--json", "--remove-damaged")
    assert done.exit_code == 1
    assert [file["is_damaged"] for file in json.loads(done.stdout)] == [True, False]
    assert not text.exists()
    assert (carried / SUMS).read_text().splitlines()[0].endswith("  mmproj-PALO-Nano-Q8_0.gguf")
    (carried / SUMS).unlink()
    assert "unknown  " in run("verify", NANO.repository).stdout


def test_rm_of_one_type_leaves_the_list_right(carried, model_dir):
    shutil.copy(model_dir / TEXT, carried)
    write_sums(carried, [carried / TEXT])
    assert run("rm", "org/PALO-Nano:F16").exit_code == 0
    assert TEXT not in (carried / SUMS).read_text()
    assert run("verify", NANO.repository).exit_code == 0
    (carried / ".unfinished").mkdir()
    (carried / ".unfinished" / "PALO-Nano-Q4_0.gguf").write_bytes(b"x")
    assert len(listed()) == 1
    assert run("rm", "org/PALO-Nano:Q8_0").exit_code == 0
    assert not carried.exists()


def test_a_conversion_that_was_interrupted(carried):
    """As the room `pull` leaves it."""
    unfinished = carried.parent / ".pull" / "org--PALO-Nano-Q4_K_M" / "unfinished"
    unfinished.mkdir(parents=True)
    with (unfinished / "PALO-Nano-Q4_K_M.gguf").open("wb") as file:
        file.write(b"x" * 65536)
        file.truncate(1 << 20)
    model = listed()["org/PALO-Nano:Q4_K_M"]
    assert (model["is_complete"], model["problem"]) == (False, "its conversion was interrupted; pull it again")
    assert model["n_bytes_here"] < model["n_bytes"] == 1 << 20
    assert "org/PALO-Nano:Q4_K_M, 1.0 MiB: its conversion was interrupted" in run("show", NANO.repository).stdout
    assert json.loads(run("rm", "org/PALO-Nano:Q4_K_M", "--json").stdout)["n_bytes_freed"] == model["n_bytes_here"]
    assert set(listed()) == {"org/PALO-Nano:Q8_0"}


def test_a_damaged_list(carried):
    (carried / SUMS).write_text("../../x\n")
    assert "expected lines of a SHA-256 and a name" in run("verify", NANO.repository).stderr
    put_sums(carried, {})
    assert run("rm", NANO.repository).exit_code == 0
    assert not converted_folder(carried, NANO).exists()
