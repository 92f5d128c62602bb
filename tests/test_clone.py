"""`import palo_cpp` where a clone's sources come first on the path: made-up packages, and a Python that knows no other.

`-S` keeps the package under test out, however it is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The sources, as git gives them."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "palo_cpp", folder / "palo_cpp", ignore=shutil.ignore_patterns("*.gguf", "__pycache__"))
    (folder / "csrc").mkdir()
    return folder


@pytest.fixture
def site(clone: Path, tmp_path: Path) -> Path:
    """An installed package: of another version, with `convert` and with something in the place of the core."""
    folder = tmp_path / "site"
    shutil.copytree(clone / "palo_cpp", folder / "palo_cpp")
    (folder / "palo_cpp" / "convert").mkdir()
    (folder / "palo_cpp" / "convert" / "__init__.py").touch()
    (folder / "palo_cpp" / f"_core{EXTENSION_SUFFIXES[0]}").touch()
    with (folder / "palo_cpp" / "__init__.py").open("a") as file:
        file.write("_MODULES['errors'] = ()\nNEW = 'only the installed one has it'\n")
    return folder


def python(code: str, clone: Path, *path: Path, flag: str = "-c") -> list[str]:
    """What the code prints with the clone as the current folder, and with folders after it on the path."""
    done = subprocess.run(
        [sys.executable, "-S", flag, code],
        cwd=clone,
        env={"PYTHONPATH": ":".join(map(str, path)), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


SHOW = """
import sys, palo_cpp, palo_cpp.errors, palo_cpp.convert
from palo_cpp.ggml import backend_library
print(palo_cpp.NEW)
for name, module in sorted(sys.modules.items()):
    if name.startswith("palo_cpp"):
        print(module.__spec__.origin)
"""


@pytest.mark.parametrize("path", ["site", "nowhere site", "clone site"])
def test_the_installed_package_takes_over_with_all_its_modules(
    clone: Path, site: Path, tmp_path: Path, path: str
) -> None:
    new, *origins = python(SHOW, clone, *(tmp_path / name for name in path.split()))
    assert new == "only the installed one has it"
    assert len(origins) > 4 and all(origin.startswith(f"{site}/palo_cpp/") for origin in origins)


def test_python_m_runs_the_installed_package(clone: Path, site: Path) -> None:
    (site / "palo_cpp" / "__main__.py").write_text("print(__file__)")
    assert python("palo_cpp", clone, site, flag="-m") == [f"{site}/palo_cpp/__main__.py"]


def test_a_clone_that_has_its_core_is_left_alone(clone: Path, site: Path) -> None:
    """Built in place."""
    (clone / "palo_cpp" / f"_core{EXTENSION_SUFFIXES[-1]}").touch()
    assert python("import palo_cpp; print(palo_cpp.__file__)", clone, site) == [f"{clone}/palo_cpp/__init__.py"]


EDITABLE = """
import importlib.util, sys
folders = ["{clone}/palo_cpp", "{clone}/build"]
init = folders[0] + "/__init__.py"
spec = importlib.util.spec_from_file_location("palo_cpp", init, submodule_search_locations=folders)
sys.modules["palo_cpp"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["palo_cpp"])
print(sys.modules["palo_cpp"].__file__, "palo_cpp.clone" in sys.modules)
"""


def test_an_editable_installation_is_left_alone(clone: Path, site: Path) -> None:
    """Its core lies in another folder of `__path__`, and `import palo_cpp` looks for nothing."""
    assert python(EDITABLE.format(clone=clone), clone, site) == [f"{clone}/palo_cpp/__init__.py False"]


def test_an_installed_package_looks_for_nothing(site: Path, tmp_path: Path) -> None:
    code = "import sys, palo_cpp; print(palo_cpp.__file__, 'palo_cpp.clone' in sys.modules, len(sys.meta_path))"
    assert python(code, tmp_path, site) == [f"{site}/palo_cpp/__init__.py False 3"]


NEEDS_THE_CORE = ["import palo_cpp._core", "from palo_cpp import _core", "from palo_cpp.convert import convert"]


@pytest.mark.parametrize("statement", [*NEEDS_THE_CORE, "from palo_cpp.backend import library_path as p; p()"])
def test_where_nothing_is_installed_one_sentence_says_what_to_do(clone: Path, statement: str) -> None:
    name = "palo_cpp.convert" if "convert" in statement else "palo_cpp._core"
    code = f"try:\n    {statement}\nexcept ImportError as error:\n    print(error)"
    assert python(code, clone) == [
        f"{name}: could not be imported: {clone} holds only the sources of palo_cpp, and it is not installed for this "
        "Python; run `pip install .` there"
    ]


def test_where_nothing_is_installed_the_rest_can_be_imported(clone: Path) -> None:
    """nano/ trains on a machine that has no palo_cpp but the clone."""
    code = "from palo_cpp import PaloError; import palo_cpp.errors as e; print(e.__file__)"
    assert python(code, clone) == [f"{clone}/palo_cpp/errors.py"]


def test_any_other_missing_module_is_missing_as_ever(clone: Path) -> None:
    code = "try:\n    import palo_cpp.nothing\nexcept ModuleNotFoundError as error:\n    print(error)"
    assert python(code, clone) == ["No module named 'palo_cpp.nothing'"]
