"""Every command of the README, run where it sends its readers: in a clone that is the current folder.

What matters is a package installed by `pip install .`, as CI has it; an editable installation passes more easily.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
INLINE = sorted(set(re.findall(r"`(palo-cpp [^`]+)`", README)))
# Programs that README names and that are not ours: CI runs pip and pytest as README writes them (.ci/run), and stock
# llama.cpp takes in the library that the variable names (tests/ggml).
STUBS = {
    "python": f'exec {shlex.quote(sys.executable)} "$@"',
    "pip": 'test "$1" = install',
    "pytest": ":",
    "llama-cli": 'test -f "$GGML_BACKEND_PATH"',
}
# A block is run as it is written, but what is piped into a chat is a question.
PRELUDE = """set -euxo pipefail
palo-cpp() { if [ "$1" = chat ]; then echo 'What is this?' | command palo-cpp "$@"; else command palo-cpp "$@"; fi; }
"""


@dataclass(frozen=True)
class Folder:
    """A current folder to run commands in.

    Attributes:
        path: the folder.
        outside: one for what is found elsewhere: the programs on the PATH, the user's home.
    """

    path: Path
    outside: Path

    def run(self, *command: str) -> str:
        """What a command prints; it must succeed."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PALO_", "GGML_"))}
        search = [str(self.outside / "bin"), sysconfig.get_path("scripts"), os.environ["PATH"]]
        # So small a model that a second thread would only wait.
        environment |= {"HOME": str(self.outside), "PATH": os.pathsep.join(search), "PALO_CPP_THREADS": "1"}
        done = subprocess.run(
            command,
            cwd=self.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0 and "Traceback" not in done.stderr, f"{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    (folder / "bin").mkdir()
    for name, code in STUBS.items():
        stub = folder / "bin" / name
        stub.write_text(f"#!/bin/sh\n{code}\n")
        stub.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, outside: Path, checkpoint_dir: Path, model_dir: Path) -> Folder:
    """What git gives of the package, and beside it what README's commands name. They may write here."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("palo_cpp", "convert", "csrc", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(checkpoint_dir, folder / "PALO-7B")
    shutil.copytree(model_dir, folder / "mobile")
    shutil.copy(ROOT / "examples" / "scene.png", folder / "photo.jpg")
    return Folder(folder, outside)


def test_every_block_of_the_readme_runs(clone: Folder) -> None:
    assert {language for language, _ in BLOCKS} == {"sh", "python"}
    for language, block in BLOCKS:
        clone.run(*(["bash", "-c", PRELUDE + block] if language == "sh" else ["python", "-c", block]))


@pytest.mark.parametrize("command", INLINE)
def test_every_command_in_the_readmes_text_is_understood(clone: Folder, command: str) -> None:
    """Not run, for they take minutes; but their options and their command are there."""
    assert "Usage: palo-cpp" in clone.run(*shlex.split(command), "--help")


COMMANDS = {
    "doctor": "ok   loading: palo_cpp._core and llama_cpp load",
    "bench nano --only encode --runs 1": "encode an image, ms",
    "convert {mobile} -o {out} --outtype q8_0": "-Q8_0.gguf",
    "quantize {model} q4_0 -o {out}": "-Q4_0.gguf: ",
    "ask {image} 'What is this?'": "",
}


@pytest.fixture
def arguments(checkpoint_dir: Path, model_dir: Path, tmp_path: Path) -> dict[str, str]:
    """What the commands are given; all of it lies elsewhere."""
    paths = {
        "mobile": checkpoint_dir,
        "model": model_dir / "PALO-Small-F16.gguf",
        "out": tmp_path / "out",
        "image": ROOT / "examples" / "scene.png",
    }
    return {name: shlex.quote(str(path)) for name, path in paths.items()}


def words(command: str, arguments: dict[str, str]) -> list[str]:
    return shlex.split(command.format(**arguments))


@pytest.mark.parametrize("start", ["palo-cpp", "python -m palo_cpp"])
@pytest.mark.parametrize(("command", "said"), COMMANDS.items(), ids=[command.split()[0] for command in COMMANDS])
def test_a_command_runs_in_a_clone(
    clone: Folder, arguments: dict[str, str], start: str, command: str, said: str
) -> None:
    output = clone.run(*start.split(), *words(command, arguments))
    assert said in output and "BAD" not in output


@pytest.mark.parametrize(("command", "said"), COMMANDS.items(), ids=[command.split()[0] for command in COMMANDS])
def test_a_command_runs_beside_modules_of_any_name(
    outside: Path, tmp_path: Path, arguments: dict[str, str], command: str, said: str
) -> None:
    for name in ("linecache", "runpy", "random", "json", "numpy", "click", "palo_cpp"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} came from the current folder')\n")
    output = Folder(tmp_path, outside).run("palo-cpp", *words(command, arguments))
    assert said in output and "BAD" not in output


IMPORTS = {
    "import palo_cpp._core as core; print(core.isa())": "",
    "from palo_cpp import _core; print(_core.__file__)": "_core.",
    "from palo_cpp.convert import convert; print(convert.__module__)": "palo_cpp.convert",
    "from palo_cpp import Palo; print(Palo.__module__)": "palo_cpp.palo",
    "from palo_cpp.ggml.backend import backend_status; print(backend_status().is_registered)": "True",
    "from palo_cpp.backend import library_path; print(library_path().is_file())": "True",
}


@pytest.mark.parametrize("place", ["copy", "repository"])
@pytest.mark.parametrize(("code", "said"), IMPORTS.items())
def test_an_import_works_in_a_clone(clone: Folder, outside: Path, place: str, code: str, said: str) -> None:
    folder = clone if place == "copy" else Folder(ROOT, outside)
    assert said in folder.run("python", "-c", code)


def test_doctor_runs_in_the_repository(outside: Path) -> None:
    assert "BAD" not in Folder(ROOT, outside).run("palo-cpp", "doctor")
