import json
import shutil
import subprocess
import sys

import fake_palo
import pytest
from click.testing import CliRunner

from palo_cpp import machine
from palo_cpp.cli import diagnosis, palo_cpp
from palo_cpp.cli.diagnosis import Finding
from palo_cpp.ggml.backend import BackendStatus, library_path

SECTIONS = ["machine", "memory", "libraries", "instruction sets", "backend", "image formats", "models"]


@pytest.fixture(autouse=True)
def palo(monkeypatch):
    return fake_palo.install(monkeypatch)


def doctor(*arguments, **extra):
    return CliRunner().invoke(palo_cpp, ["doctor", *map(str, arguments)], prog_name="palo-cpp", **extra)


def test_a_sound_installation(model_dir):
    result = doctor("-m", model_dir)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line[:-1] for line in result.stdout.splitlines() if line[:1].isalpha() and line[-1] == ":"] == SECTIONS
    for text in ("physical cores usable", "available of", "llama-cpp-python: ", "libllama", "WebP: ", "offers ", "AVX"):
        assert text in result.stdout or text == "AVX"  # no AVX on Arm
    assert "PALO-Small-F16.gguf: language model, goes with mmproj-PALO-Small-F16.gguf" in result.stdout
    assert "BAD" not in result.stdout


def test_as_json(model_dir):
    said = json.loads(doctor("-m", model_dir, "--json").stdout)
    assert list(said) == ["ok", *SECTIONS]
    assert said["ok"] is True
    assert all(set(finding) == {"what", "value", "is_ok", "advice"} for name in SECTIONS for finding in said[name])


def test_there_is_one_ggml_in_the_process():
    found = diagnosis.libraries()
    names = [finding.value.rsplit("/", 1)[-1] for finding in found if finding.what == "file"]
    assert sum(name.startswith("libggml-base") for name in names) <= 1
    assert all(finding.is_ok for finding in found)


def test_two_ggmls_in_one_process_are_found(monkeypatch, tmp_path):
    monkeypatch.setattr(diagnosis, "_mapped", lambda *_: {tmp_path / "libggml-base.so", tmp_path / "libggml-base.so.0"})
    found = [finding for finding in diagnosis.libraries() if not finding.is_ok]
    assert [(finding.what, finding.value) for finding in found] == [("ggml", "loaded 2 times into one process")]


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setattr(diagnosis, "PACKAGES", ("palo-cpp", "no-such-package"))
    result = doctor()
    assert result.exit_code == 1
    assert "BAD  no-such-package: missing\n       -> pip install no-such-package" in result.stdout
    assert "Something is missing" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
@pytest.mark.parametrize(
    ("trial", "value"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "illegal instruction: built for another CPU"),
        ("import palo_cpp.no_such_module", "ModuleNotFoundError: No module named 'palo_cpp.no_such_module'"),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_libraries_that_do_not_load(monkeypatch, trial, value):
    monkeypatch.setattr(diagnosis, "TRIAL", trial)
    bad = [finding for finding in diagnosis.libraries() if not finding.is_ok]
    assert [(finding.what, finding.value) for finding in bad] == [("loading", value)]
    assert "pip install --force-reinstall" in bad[0].advice


def test_libraries_that_hang(monkeypatch):
    def run(*_, **__):
        raise subprocess.TimeoutExpired("python", 120)

    monkeypatch.setattr(subprocess, "run", run)
    assert [finding.value for finding in diagnosis.libraries() if not finding.is_ok] == ["took longer than 120 s"]


def test_a_look_that_fails_is_a_finding(monkeypatch):
    def fail():
        raise OSError("no such thing here")

    monkeypatch.setattr(diagnosis, "memory", fail)
    assert diagnosis.examine(".")["memory"] == [
        Finding("memory", "OSError: no such thing here", False, diagnosis.examine(".")["memory"][0].advice)
    ]


def test_an_instruction_set_can_be_forced(monkeypatch):
    monkeypatch.setenv("PALO_CPP_ISA", "ref")
    assert any("uses ref (PALO_CPP_ISA=ref)" in finding.value for finding in diagnosis.instruction_sets())


def test_an_instruction_set_that_this_machine_has_not(monkeypatch):
    monkeypatch.setenv("PALO_CPP_ISA", "abacus")
    result = doctor()
    assert result.exit_code == 1
    assert "PALO_CPP_ISA: expected one of" in result.stdout


def test_the_backend_says_for_which_types_it_is_active():
    found = {finding.what: finding.value for finding in diagnosis.backend("palo")}
    assert found["library"].endswith(library_path().name)
    assert found["mode"].startswith("palo, ") and found["mode"].endswith("active for q4_0, q8_0, q4_K, q5_K, q6_K, f16")
    assert found["q4_K"] == "ours: asked for"
    assert {finding.what: finding.value for finding in diagnosis.backend("cpu")}["q4_K"] == "llama.cpp: switched off"
    assert "times ggml's speed" in {finding.what: finding.value for finding in diagnosis.backend("auto")}["q4_K"]


def test_a_backend_that_stays_out_is_no_fault(monkeypatch):
    status = BackendStatus(library_path(), is_registered=False, reason="expected version 2, got 3")
    monkeypatch.setattr("palo_cpp.ggml.backend.backend_status", lambda _: status)
    (found,) = diagnosis.backend("auto")
    assert found.is_ok and "not in use: expected version 2, got 3" in found.value and "llama.cpp" in found.advice


@pytest.mark.parametrize(("amx", "n_findings"), [("absent", 0), ("works", 0), ("withdrawn", 1), ("broken", 1)])
def test_amx_that_llama_cpp_must_do_without_is_no_fault(monkeypatch, amx, n_findings):
    monkeypatch.setattr("palo_cpp.ggml.backend_library.settled_amx", lambda _: amx)
    found = [finding for finding in diagnosis.instruction_sets() if "AMX" in finding.what]
    assert len(found) == n_findings
    assert all(each.is_ok and "left out" in each.value and "compiler" in each.advice for each in found)


def test_image_formats_that_pillow_was_built_without(monkeypatch):
    from PIL import features

    monkeypatch.setattr(features, "check", lambda codec: codec not in ("avif", "jpg"))
    found = {finding.what: finding.is_ok for finding in diagnosis.image_formats()}
    assert found["AVIF"] and not found["JPEG"]


def test_the_demo_is_there(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = doctor()
    assert result.exit_code == 0
    assert "ok   PALO-Nano-Q8_0.gguf: language model, goes with mmproj-PALO-Nano-Q8_0.gguf" in result.stdout


def test_no_models_in_a_folder_that_was_named(tmp_path):
    result = doctor("-m", tmp_path)
    assert result.exit_code == 1
    assert f"none in {tmp_path}" in result.stdout and "palo-cpp convert CHECKPOINT -o FOLDER" in result.stdout
    assert doctor("-m", tmp_path / "nothing").exit_code == 1


def test_a_model_without_its_other_half(model_dir, tmp_path):
    shutil.copy(model_dir / "PALO-Small-F16.gguf", tmp_path)
    result = doctor("-m", tmp_path)
    assert result.exit_code == 1
    assert "BAD  PALO-Small-F16.gguf: " in result.stdout and "expected mmproj-*.gguf beside it" in result.stdout


def test_a_model_that_would_not_fit(monkeypatch, model_dir):
    monkeypatch.setattr(machine, "memory_available", lambda: 1 << 20)
    result = doctor("-m", model_dir)
    assert result.exit_code == 0
    assert "more than is available\n       -> palo-cpp quantize makes it smaller" in result.stdout
