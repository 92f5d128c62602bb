import json
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import fake_palo
import pytest
from click.testing import CliRunner

from palo_cpp import machine
from palo_cpp.cli import diagnosis, palo_cpp
from palo_cpp.cli.diagnosis import Finding
from palo_cpp.errors import PaloError
from palo_cpp.ggml.backend import BackendStatus, library_path

REBUILD = (
    "build palo-cpp and llama-cpp-python again: in a clone of palo_cpp, pip install --force-reinstall --no-cache-dir ."
)
UNFOUND = ": cannot open shared object file: No such file or directory"
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


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("llama-cpp-python", "pip install 'llama-cpp-python==0.3.36'"),
        ("Pillow", "pip install 'pillow>=11'"),
        ("py", "pip install py"),  # neither py3langid nor pytest
        ("pytest", "pip install pytest"),  # needed by an extra alone
    ],
)
def test_a_package_is_installed_in_the_version_that_is_needed(monkeypatch, name, advice):
    def missing(_):
        raise PackageNotFoundError

    monkeypatch.setattr(diagnosis, "version", missing)
    assert diagnosis._package(name).advice == advice


def test_what_is_missing_with_palo_cpp_comes_with_it(monkeypatch):
    def missing(_):
        raise PackageNotFoundError

    monkeypatch.setattr(diagnosis, "version", missing)
    monkeypatch.setattr(diagnosis, "requires", missing)
    assert {finding.advice for finding in diagnosis.libraries()} == {"in a clone of palo_cpp: pip install ."}


def test_a_module_that_is_missing_is_one_of_the_libraries(monkeypatch):
    def fail():
        raise ModuleNotFoundError("No module named 'PIL'")

    monkeypatch.setattr(diagnosis, "image_formats", fail)
    (found,) = diagnosis.examine(".")["image formats"]
    assert (found.value, found.advice) == (
        "ModuleNotFoundError: No module named 'PIL'",
        "install what is missing: see libraries",
    )


def test_one_missing_package_hides_none_of_the_others(monkeypatch):
    monkeypatch.setattr(diagnosis, "PACKAGES", ("no-such-package", "rich"))
    assert [(finding.what, finding.is_ok) for finding in diagnosis.examine(".")["libraries"]] == [
        ("no-such-package", False),
        ("rich", True),
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
@pytest.mark.parametrize(
    ("trial", "value", "advice"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
            "illegal instruction: built for another CPU",
            REBUILD,
        ),
        ("import palo_cpp.no_such_module", "ModuleNotFoundError: No module named 'palo_cpp.no_such_module'", REBUILD),
        ("raise SystemExit(3)", "exit code 3", REBUILD),
        (f"raise ImportError('libllama.so{UNFOUND}')", f"ImportError: libllama.so{UNFOUND}", REBUILD),
        (
            f"raise ImportError('libgomp.so.1{UNFOUND}')",
            f"ImportError: libgomp.so.1{UNFOUND}",
            "install the package of your system that brings libgomp.so.1",
        ),
    ],
)
def test_libraries_that_do_not_load(monkeypatch, tmp_path, trial, value, advice):
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "trial.py").write_text(trial)
    monkeypatch.syspath_prepend(modules)
    monkeypatch.setattr(diagnosis, "TRIAL", "trial")
    bad = [finding for finding in diagnosis.libraries() if not finding.is_ok]
    assert bad == [Finding("loading", value, is_ok=False, advice=advice)]


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
    assert "report it" in diagnosis.examine(".")["memory"][0].advice


def test_a_failure_that_says_how_to_fix_it_is_the_advice(monkeypatch):
    def fail():
        raise PaloError("the memory: expected some, got none; add some")

    monkeypatch.setattr(diagnosis, "memory", fail)
    assert diagnosis.examine(".")["memory"] == [
        Finding("memory", "PaloError: the memory: expected some, got none", False, "add some")
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
    command = "pip install --force-reinstall --no-cache-dir 'llama-cpp-python==0.3.36'"
    assert all(command in each.advice for each in found)


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
