"""How another process of this Python is started: with this one's modules, none of which the current folder shadows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from palo_cpp.child_process import child_command

# Modules that Python itself imports as it starts a child (`linecache` is 3.13's), and others that ours import.
STRAYS = ("linecache", "runpy", "random", "json", "numpy", "palo_cpp", "shown")


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that only this process has on its path, with the module `shown`; the current folder has strays."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "shown.py").write_text(
        "import json, sys, random, palo_cpp\nprint(json.dumps([__name__, sys.argv[1:], sys.path]))\nsys.exit(7)\n"
    )
    for name in STRAYS:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} came from the current folder')\n")
    monkeypatch.syspath_prepend(folder)
    return folder


def shown(**environment: str) -> list[str]:
    """The path of a child that runs `shown`."""
    command = child_command("shown", "a b", "", "ج")
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (7, "")
    name, arguments, path = json.loads(done.stdout)
    assert (name, arguments) == ("__main__", ["a b", "", "ج"])
    return path


def test_a_child_imports_what_this_process_imports(modules: Path) -> None:
    assert shown() == sys.path
    assert str(modules) in sys.path


@pytest.mark.parametrize("spelling", ["", ".", "modules/..", "ABSOLUTE", "LINK"])
@pytest.mark.usefixtures("modules")
def test_the_current_folder_comes_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spelling: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    spelled = {"ABSOLUTE": str(tmp_path), "LINK": str(tmp_path / "link")}.get(spelling, spelling)
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", [spelled, *sys.path])
    assert shown() == [*before, spelled]


def test_a_module_of_the_current_folder_alone_is_found(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As palo_cpp is where it was installed into the folder of a program."""
    (modules / "shown.py").rename(modules.parent / "shown.py")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert shown()[-1] == ""


@pytest.mark.usefixtures("modules")
def test_what_is_no_folder_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", [*sys.path, Path("/nowhere")])  # importing skips it, too
    assert shown() == before


@pytest.mark.parametrize("variable", ["PYTHONSAFEPATH", "PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE"])
@pytest.mark.usefixtures("modules")
def test_what_the_environment_says_changes_nothing(variable: str) -> None:
    assert shown(**{variable: "1"}) == sys.path


def test_there_is_no_other_way_to_start_a_child() -> None:
    root = Path(__file__).parents[1]
    sources = [path for folder in ("palo_cpp", "convert") for path in (root / folder).rglob("*.py")]
    named = {path.name for path in sources if "sys.executable" in path.read_text(encoding="utf-8")}
    assert named == {"child_process.py", "diagnosis.py"}  # doctor shows it
