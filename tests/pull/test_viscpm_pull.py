"""VisCPM-Chat from the hub: one of its checkpoints, its vocabulary, no tower, and files that are a model."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from palo_cpp.convert import convert
from viscpm_checkpoint import WIDE, write_viscpm_checkpoint

from palo_cpp import Palo
from palo_cpp.cli import palo_cpp as command
from palo_cpp.families.registry import VISCPM
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.models.files import find_model
from palo_cpp.models.hub_models import CACHE_ONLY, cached_model
from palo_cpp.models.names import HubName
from palo_cpp.pull.plan import PullOptions, Watch
from palo_cpp.pull.pulling import opened_pull

NAME = HubName("openbmb/VisCPM-Chat", "Q8_0")


@pytest.fixture
def published(hub, tmp_path):
    folder = write_viscpm_checkpoint(tmp_path / "VisCPM-Chat")
    write_viscpm_checkpoint(folder, seed=1, weights="pytorch_model.v1.bin")
    hub.add(NAME.repository, {path.name: path for path in folder.iterdir()})
    return folder


@pytest.mark.parametrize("is_low_disk", [False, True])
def test_it_is_pulled_whole(published, tmp_path, is_low_disk):
    with opened_pull(NAME, PullOptions(is_low_disk=is_low_disk)) as found:
        (download,) = found.plan.downloads
        assert {file.path for file in download.files} == {"config.json", "vocab.txt", "pytorch_model.bin"}
        assert any("research" in warning for warning in found.plan.warnings)
        paths = found.run(Watch())
    files = find_model(paths.text.parent)
    assert files.family is VISCPM and files.mmproj is not None
    done = convert(published, tmp_path / "out", outtype="q8_0")
    assert read_header(done.model_path).weights_id() == files.text.weights_id()


def test_commands_know_it_by_its_name(published, picture, hub):
    def run(*arguments):
        return CliRunner().invoke(command, [*arguments])

    plan = run("pull", "viscpm", "--plan", "--outtype", "q8_0")
    assert plan.exit_code == 0 and "pytorch_model.bin" not in plan.stderr, plan.output
    for name in ("ls", "show", "verify", "rm"):
        assert "Traceback" not in run(name, *([] if name == "ls" else ["viscpm"])).output
    pulled = run("pull", "viscpm:Q8_0", "--yes")
    assert pulled.exit_code == 0, pulled.output
    listed = run("ls")
    assert "openbmb/VisCPM-Chat" in listed.stdout and "zh" in listed.stdout
    shown = run("show", "viscpm:Q8_0")
    assert shown.exit_code == 0 and "cpmbee" in shown.stdout and "beit3" in shown.stdout
    verified = run("verify", "viscpm:Q8_0")
    assert verified.exit_code == 0, verified.output
    with Palo("viscpm:Q8_0", n_ctx=160, n_threads=1, local_files_only=True) as palo:
        assert palo.ask(picture, "这是什么？", max_tokens=4, lang_mode="off").token_ids
    removed = run("rm", "viscpm:Q8_0")
    assert removed.exit_code == 0, removed.output
    assert "VisCPM" not in run("ls").stdout


def test_further_checkpoints_have_names_of_their_own(published, picture, tmp_path, hub):
    def run(*arguments):
        return CliRunner().invoke(command, [*map(str, arguments)])

    for name in ("viscpm-v1:Q8_0", "viscpm:Q8_0"):
        pulled = run("pull", name, "--yes", "--json")
        assert pulled.exit_code == 0, pulled.output
    answers = []
    for name, seed in (("viscpm", 0), ("viscpm-v1", 1)):
        checkpoint = write_viscpm_checkpoint(tmp_path / f"seed {seed}" / "VisCPM-Chat", seed=seed)
        done = convert(checkpoint, tmp_path / name, outtype="q8_0")
        with Palo(f"{name}:Q8_0", n_ctx=160, n_threads=1, local_files_only=True) as palo:
            assert palo.files.text.tensors_id("") == read_header(done.model_path).tensors_id("")
            answers.append(palo.ask(picture, "?", max_tokens=6, lang_mode="off").token_ids)
            assert palo.name == ("VisCPM-Chat-v1" if seed else "VisCPM-Chat")
    assert answers[0] != answers[1]
    listed = run("ls").stdout
    assert "viscpm-v1:Q8_0" in listed and "openbmb/VisCPM-Chat:Q8_0" in listed
    for command_name in ("show", "verify"):
        shown = run(command_name, "viscpm-v1:Q8_0")
        assert shown.exit_code == 0 and "VisCPM-Chat-v1-Q8_0.gguf" in shown.stdout, shown.output
        assert "VisCPM-Chat-Q8_0.gguf" not in shown.stdout
    assert run("pull", "viscpm-v1:Q8_0", "--to", tmp_path / "stick").exit_code == 0
    assert run("rm", "viscpm-v1:Q8_0").exit_code == 0
    assert "viscpm-v1" not in run("ls").stdout and "openbmb/VisCPM-Chat:Q8_0" in run("ls").stdout
    taken = run("pull", "viscpm-v1:Q8_0", "--from", tmp_path / "stick")
    assert taken.exit_code == 0 and "viscpm-v1:Q8_0" in run("ls").stdout, taken.output


def test_a_checkpoint_that_the_repository_lacks_is_one_sentence(published, hub):
    done = CliRunner().invoke(command, ["pull", "viscpm-zhplus", "--plan"])
    assert done.exit_code == 1 and done.stdout == ""
    assert (
        "viscpm-zhplus:Q4_K_M: expected weights named *zhplus*.bin in openbmb/VisCPM-Chat, got pytorch_model"
        in done.stderr
    )


CODE = """
import sys, time
from palo_cpp.models.names import HubName
from palo_cpp.pull.plan import PullOptions, Watch
from palo_cpp.pull.pulling import opened_pull
def pace(progress):
    time.sleep(0.004)
    print(flush=True)
with opened_pull(HubName("openbmb/VisCPM-Chat", "Q8_0"), PullOptions(is_low_disk=True)) as found:
    found.run(Watch(pace, pace))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without signals")
def test_killed_at_random_moments_it_goes_on(hub, cache, tmp_path):
    """kill -9 while the one file comes and while it is converted: nothing that looks like a model, then the model."""
    folder = write_viscpm_checkpoint(tmp_path / "VisCPM-Chat", WIDE)
    hub.add(NAME.repository, {path.name: path for path in folder.iterdir()})
    hub.bytes_per_s = 40_000_000
    chance, n_killed, n_half_done = random.Random(7), 0, 0
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(chance.uniform(0.05, 0.6))
            os.kill(process.pid, signal.SIGKILL)
            n_killed += process.wait() == -signal.SIGKILL
        n_half_done += bool(list((cache.parent / "palo-cpp").rglob("unfinished/journal")))
        if cached_model(NAME, CACHE_ONLY) is not None:
            break
    assert n_killed >= 2 and n_half_done
    with opened_pull(NAME, PullOptions(is_low_disk=True)) as found:
        paths = found.run(Watch())
    done = convert(folder, tmp_path / "out", outtype="q8_0")
    assert read_header(done.model_path).weights_id() == read_header(paths.text).weights_id()
    assert paths.mmproj.read_bytes()[-100_000:] == done.mmproj_path.read_bytes()[-100_000:]
    assert find_model(paths.text.parent).mmproj is not None
    assert not (cache.parent / "palo-cpp" / ".pull").exists()
