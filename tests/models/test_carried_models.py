"""Models on a stick: to it, from it, and what is refused."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hub_pulls import pull
from huggingface_hub import constants, scan_cache_dir

from palo_cpp import Palo
from palo_cpp.errors import ArgumentError, ModelFormatError, ModelNotFoundError, PaloError
from palo_cpp.models.carried_models import carry_from, carry_to, choose_in
from palo_cpp.models.checksums import SUMS, put_sums, read_sums, write_sums
from palo_cpp.models.hub_models import CACHE_ONLY, ModelPaths, cached_model, converted_folder
from palo_cpp.models.names import NANO_FOLDER, HubName

SMALL = HubName("org/small")
NANO = HubName("org/PALO-Nano")
TEXT, MMPROJ = "PALO-Small-F16.gguf", "mmproj-PALO-Small-F16.gguf"


@pytest.fixture
def small(model_dir: Path) -> ModelPaths:
    return ModelPaths(model_dir / TEXT, model_dir / MMPROJ)


@pytest.fixture
def stick(small: ModelPaths, tmp_path: Path) -> Path:
    """A folder with the small model."""
    carry_to(small, SMALL, tmp_path / "stick")
    return tmp_path / "stick"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---- there and back


@pytest.mark.usefixtures("no_network")
def test_from_one_machine_to_another_without_a_network(cache, tmp_path, picture):
    nano = ModelPaths(NANO_FOLDER / "PALO-Nano-Q8_0.gguf", NANO_FOLDER / "mmproj-PALO-Nano-Q8_0.gguf")
    reports = []
    files = carry_to(nano, NANO, tmp_path / "stick", reports.append)
    assert names_in(tmp_path / "stick") == {"PALO-Nano-Q8_0.gguf", "mmproj-PALO-Nano-Q8_0.gguf", SUMS}
    assert reports[-1].n_bytes_done == reports[-1].n_bytes == sum(path.stat().st_size for path in files)
    assert [r.n_bytes_done for r in reports] == sorted(r.n_bytes_done for r in reports)
    paths = carry_from(NANO, tmp_path / "stick", cache)
    assert cached_model(NANO, CACHE_ONLY) == paths
    assert cached_model(HubName("org/PALO-Nano", "Q8_0"), CACHE_ONLY) == paths
    with Palo("org/PALO-Nano", n_threads=1) as palo, Palo("nano", n_threads=1) as shipped:
        assert palo.ask(picture, "কী আছে?", lang="bn").text == shipped.ask(picture, "কী আছে?", lang="bn").text
    assert not cache.exists() or not scan_cache_dir(cache).warnings


@pytest.mark.usefixtures("hub")
def test_what_the_hub_gave_is_carried_under_its_names(hub, cache, model_dir, tmp_path):
    hub.add("org/small", {path.name: path for path in model_dir.glob("*.gguf")})
    pull(name="org/small")
    paths = cached_model(SMALL, CACHE_ONLY)
    carry_to(paths, SMALL, tmp_path / "stick")
    assert read_sums(tmp_path / "stick") == {path.name: path.resolve().name for path in (paths.text, paths.mmproj)}
    assert not any(path.is_symlink() for path in (tmp_path / "stick").iterdir())
    shutil.rmtree(cache)
    carry_from(SMALL, tmp_path / "stick", cache)
    assert cached_model(SMALL, CACHE_ONLY).text.is_file()


def test_what_is_there_is_not_copied_again(small, stick, cache):
    before = {path: path.stat().st_ino for path in stick.glob("*.gguf")}
    carry_to(small, SMALL, stick)
    assert {path: path.stat().st_ino for path in stick.glob("*.gguf")} == before
    (stick / MMPROJ).unlink()
    carry_to(small, SMALL, stick)
    assert (stick / TEXT).stat().st_ino == before[stick / TEXT]
    paths = carry_from(SMALL, stick, cache)
    inode = paths.text.stat().st_ino
    assert carry_from(SMALL, stick, cache) == paths
    assert paths.text.stat().st_ino == inode


def test_several_models_share_a_stick(stick):
    nano = ModelPaths(NANO_FOLDER / "PALO-Nano-Q8_0.gguf", NANO_FOLDER / "mmproj-PALO-Nano-Q8_0.gguf")
    carry_to(nano, NANO, stick)
    assert len(read_sums(stick)) == 4
    assert choose_in(stick, NANO).paths == ("PALO-Nano-Q8_0.gguf", "mmproj-PALO-Nano-Q8_0.gguf")
    assert choose_in(stick, HubName("org/palo-small-GGUF")).paths == (TEXT, MMPROJ)
    with pytest.raises(ModelNotFoundError, match="expected the files of other, got those of PALO-Nano, PALO-Small"):
        choose_in(stick, HubName("org/other"))
    with pytest.raises(ArgumentError, match="stick:Q2_K: expected one of Q8_0, got Q2_K"):
        choose_in(stick, HubName("org/PALO-Nano", "Q2_K"))


def test_two_sizes_of_one_type_keep_their_own_mmproj(tmp_path):
    for name in ("PALO-7B-Q4_K_M.gguf", "PALO-13B-Q4_K_M.gguf", "mmproj-PALO-7B-F16.gguf", "mmproj-PALO-13B-F16.gguf"):
        (tmp_path / name).touch()
    for name in ("PALO-7B", "PALO-13B"):
        chosen = choose_in(tmp_path, HubName(f"MBZUAI/{name}"))
        assert chosen.paths == (f"{name}-Q4_K_M.gguf", f"mmproj-{name}-F16.gguf")


@pytest.mark.parametrize("stem", ["PALO-13B", "PALO-Nano", "MobilePALO-1.7B"])
def test_nothing_else_is_taken_for_a_published_model(tmp_path, stem):
    (tmp_path / f"{stem}-Q4_K_M.gguf").touch()
    with pytest.raises(ModelNotFoundError, match=f"expected the files of PALO-7B, got those of {stem}"):
        choose_in(tmp_path, HubName("MBZUAI/PALO-7B"))
    assert choose_in(tmp_path, HubName("org/my-own")).text == f"{stem}-Q4_K_M.gguf"


@pytest.mark.parametrize("stem", ["PALO-7B", "palo-7b", "tuned-PALO-7B-v2"])
def test_names_of_a_published_model(tmp_path, stem):
    (tmp_path / f"{stem}-Q4_K_M.gguf").touch()
    assert choose_in(tmp_path, HubName("MBZUAI/PALO-7B")).text == f"{stem}-Q4_K_M.gguf"


def test_a_plain_folder_says_that_nothing_could_be_checked(model_dir, cache, caplog):
    with caplog.at_level(logging.WARNING):
        paths = carry_from(SMALL, model_dir, cache)
    assert f"has no SHA-256 of {TEXT} and {MMPROJ}: nothing could be checked" in caplog.text
    assert read_sums(paths.text.parent).keys() == {TEXT, MMPROJ}, "from now on it can be verified"


# ---- damage


def test_a_wrong_hash_on_the_stick(stick, cache):
    before = read_sums(stick)
    with (stick / MMPROJ).open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"x")
    with pytest.raises(ModelFormatError, match=f"{MMPROJ}: expected SHA-256 {before[MMPROJ]}, got [0-9a-f]{{64}}; "):
        carry_from(SMALL, stick, cache)
    assert cached_model(SMALL, CACHE_ONLY) is None
    assert not converted_folder(cache, SMALL).exists(), "bytes were to go"


def test_a_wrong_hash_replaces_nothing(stick, cache):
    paths = carry_from(SMALL, stick, cache)
    with paths.text.open("r+b") as file:  # so that it is copied again
        file.truncate(1000)
    with (stick / TEXT).open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"x")
    with pytest.raises(ModelFormatError, match="expected SHA-256"):
        carry_from(SMALL, stick, cache)
    assert paths.text.stat().st_size == 1000
    assert not list(paths.text.parent.glob(".*"))


def test_what_is_damaged_here_is_not_carried(small, tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    here = ModelPaths(*(Path(shutil.copy(path, folder)) for path in (small.text, small.mmproj)))
    write_sums(folder, [here.text, here.mmproj])
    with here.mmproj.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"x")
    with pytest.raises(ModelFormatError, match="expected SHA-256"):
        carry_to(here, SMALL, tmp_path / "stick")
    assert names_in(tmp_path / "stick") == {TEXT, SUMS}


def test_what_is_damaged_on_the_stick_is_copied_again(small, stick, caplog):
    (stick / TEXT).write_bytes(b"half")
    with caplog.at_level(logging.WARNING):
        carry_to(small, SMALL, stick)
    assert f"{TEXT} is damaged and is copied again" in caplog.text
    assert (stick / TEXT).read_bytes() == small.text.read_bytes()


def test_a_file_of_another_model_is_not_overwritten(small, stick):
    (stick / TEXT).write_bytes(b"another")
    put_sums(stick, {})
    with pytest.raises(PaloError, match=r"expected the file of org/small with SHA-256 .*, got another of that name"):
        carry_to(small, SMALL, stick)
    assert (stick / TEXT).read_bytes() == b"another"


def test_another_conversion_of_that_name_here_stays(stick, cache):
    here = converted_folder(cache, SMALL)
    here.mkdir(parents=True)
    for shipped, name in (("PALO-Nano-Q8_0.gguf", TEXT), ("mmproj-PALO-Nano-Q8_0.gguf", MMPROJ)):
        shutil.copy(NANO_FOLDER / shipped, here / name)
    with pytest.raises(ArgumentError, match="got one of another conversion; remove it with `palo-cpp rm org/small`"):
        carry_from(SMALL, stick, cache)


@pytest.mark.parametrize("name", [TEXT, MMPROJ])
def test_a_link_that_leads_out_is_refused(stick, cache, tmp_path, name):
    (tmp_path / "outside.gguf").write_bytes((stick / name).read_bytes())
    (stick / name).unlink()
    (stick / name).symlink_to(tmp_path / "outside.gguf")
    with pytest.raises(ModelFormatError, match="a link or a name that leads out of it"):
        carry_from(SMALL, stick, cache)


def test_what_is_no_model(cache, tmp_path, stick):
    with pytest.raises(ModelNotFoundError, match="expected a folder with GGUF files, got none there"):
        carry_from(SMALL, tmp_path / "nowhere", cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match="expected GGUF files, got none; `palo-cpp pull org/small --to"):
        carry_from(SMALL, tmp_path / "empty", cache)
    (stick / MMPROJ).unlink()
    with pytest.raises(ModelNotFoundError, match=r"expected mmproj-\*\.gguf beside it"):
        carry_from(SMALL, stick, cache)
    (stick / TEXT).write_bytes(b"GGUF?")
    (stick / MMPROJ).write_bytes(b"GGUF?")
    with pytest.raises(ModelFormatError):
        carry_from(SMALL, stick, cache)
    assert not converted_folder(cache, SMALL).exists()


# ---- disks

RUN = """
    import json, resource, signal, sys
    from pathlib import Path
    from palo_cpp.errors import PaloError
    from palo_cpp.models.carried_models import carry_to
    from palo_cpp.models.hub_models import ModelPaths
    from palo_cpp.models.names import HubName
    text, mmproj, folder, limit = json.loads(sys.argv[1])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        carry_to(ModelPaths(Path(text), Path(mmproj)), HubName("org/small"), Path(folder), lambda _: print(flush=True))
    except PaloError as error:
        print(error)
"""


def start(small: ModelPaths, folder: Path, limit: int = 0) -> subprocess.Popen[str]:
    arguments = json.dumps([str(small.text), str(small.mmproj), str(folder), limit])
    command = [sys.executable, "-c", textwrap.dedent(RUN), arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="no limits")
def test_a_file_that_the_disk_does_not_take(small, tmp_path):
    """A limit of the process gives the error that FAT32 gives for 4 GiB."""
    output, _ = start(small, tmp_path / "stick", limit=100_000).communicate(timeout=60)
    assert "got one that does not (FAT32 ends at 4 GiB); format it as exFAT, or choose a smaller type" in output
    assert not (tmp_path / "stick").exists()


def test_too_little_room(small, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage._replace(free=1 << 20))
    with pytest.raises(PaloError, match=r"stick: expected .* GiB of free space"):
        carry_to(small, SMALL, tmp_path / "stick")
    assert not (tmp_path / "stick").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_and_carried_on(small, tmp_path):
    large = tmp_path / "here"
    large.mkdir()
    paths = ModelPaths(*(Path(shutil.copy(path, large)) for path in (small.text, small.mmproj)))
    with paths.text.open("ab") as file:  # long enough to be killed in
        file.truncate(200 << 20)
    with start(paths, tmp_path / "stick") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert list((tmp_path / "stick").glob(".*.partial-*")), "it was to be killed in the middle"
    assert not (tmp_path / "stick" / TEXT).exists()
    carry_to(paths, SMALL, tmp_path / "stick")
    assert names_in(tmp_path / "stick") == {TEXT, MMPROJ, SUMS}
