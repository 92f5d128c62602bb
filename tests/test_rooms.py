"""The package's rooms: which may import which, no circle of imports, a docstring and a folder of tests for each."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCES = Path(__file__).resolve().parent.parent

# Every room may import these, which import only each other.
LEAVES = ("errors", "segments", "machine", "partial_files", "child_process", "forked")

# Room -> what else it may import: other rooms, or only a module of one. A room is a folder of palo_cpp/ or a module
# beside them; `convert` counts where it is installed, among them, and "" is `palo_cpp` itself. Lowest room first.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "_core": (),
    **dict.fromkeys(LEAVES, ()),
    "hub": (),
    "ggml": (),
    "languages": (),
    "llm": ("ggml", "_core"),
    "vision": ("ggml", "_core"),
    "decoding": ("llm", "languages", "ggml"),
    "families": ("decoding", "llm", "vision", "languages", "ggml"),
    "models": ("hub", "families", "decoding", "vision", "llm", "languages", "ggml"),
    "chat": ("models", "families", "decoding", "vision", "llm", "languages"),
    "convert": ("models.show", "families", "languages", "ggml"),
    "pull": ("hub", "models", "convert"),
    "palo": ("pull", "chat", "models", "families", "decoding", "vision", "languages"),
    "": ("clone", "palo", "chat", "decoding.options"),
    "clone": (),
    "backend": ("ggml.backend_library",),
    "packaging": ("models", "ggml", "convert"),
    "bench": ("", "palo", "chat.answer", "models", "languages"),
    "server": ("", "palo", "chat", "models", "vision.image", "languages"),
    "cli": ("", "palo", "pull", "hub", "chat.answer", "models", "languages", "bench", "server", "packaging", "convert"),
    "__main__": ("cli",),
}

# What `palo` and modules of the entrances need beyond that, and why.
EXCEPTIONS = {
    ("palo", "ggml.backend"): "type of an argument and of a property",
    ("palo", "llm.language_model"): "type of a property",
    ("bench.contestant", "ggml.backend"): "type of the kernels that a side runs on",
    ("bench.machine_speed", "families.palo.published"): "counts the tower's multiplications as predictions do",
    ("bench.machine_speed", "ggml.backend"): "measures a plain read",
    ("bench.machine_speed", "llm.language_model"): "times the language model alone",
    ("bench.machine_speed", "vision"): "times the vision encoder alone",
    ("bench.palo_side", "_core"): "names the kernels' instruction set",
    ("bench.palo_side", "chat.chat"): "answers from a model that was loaded for its parts",
    ("bench.operations", "llm.text_sizes"): "counts operations by sizes",
    ("bench.palo_side", "families.family"): "options of loading",
    ("bench.palo_side", "families.viscpm"): "finds the language model alone",
    ("bench.palo_side", "ggml"): "loads the libraries before the clock starts; reads headers of GGUF files",
    ("bench.palo_side", "llm.language_model"): "times the language model alone",
    ("bench.palo_side", "vision"): "times the vision encoder alone, with nothing kept",
    ("bench.llama_side", "ggml"): "runs stock llama.cpp from the libraries that palo_cpp depends on",
    ("bench.run", "_core"): "chooses instructions that compute in float32 as the reference",
    ("bench.plan", "families.family"): "whether answers are searched on several paths",
    ("bench.plan", "families.registry"): "the same",
    ("bench.plan", "ggml"): "reads headers of GGUF files",
    ("bench.run", "families.family"): "options of loading",
    ("bench.run", "ggml"): "reads sizes in headers of GGUF files",
    ("bench.bee_text", "llm"): "times the language model alone",
    ("bench.palo_sizes", "convert"): "synthetic models have the sizes and tensors of converted ones",
    ("bench.random_file", "convert"): "the same",
    ("bench.sizes", "families.viscpm.published"): "names of further checkpoints with the sizes of the first",
    ("bench.synthetic", "convert"): "types of files",
    ("bench.viscpm_sizes", "convert"): "synthetic models have the sizes and tensors of converted ones",
    ("bench.viscpm_sizes", "families.viscpm.tokenizer"): "synthetic models have a vocabulary",
    ("bench.worker", "_core"): "measures the peak of int8 products",
    ("bench.worker", "ggml"): "measures a plain read; sees whether our kernels are in use",
    ("cli.bench", "ggml.backend"): "type of --backend",
    ("cli.diagnosis", "_core"): "shows what is loaded and what this CPU offers",
    ("cli.loading_trial", "_core"): "tries to load it",
    ("cli.diagnosis", "ggml"): "the same",
    ("cli.diagnosis", "vision.heif"): "shows whether HEIC can be read",
    ("cli.open_model", "vision.image"): "looks at the images before a model is loaded",
    ("cli.doctor", "ggml.backend"): "type of --backend",
    ("cli.options", "decoding.options"): "type of the options that it collects",
    ("cli.page", "vision.image"): "draws small pictures",
    ("cli.path_quoting", "vision.image_bytes"): "reads the URI of a local file",
}


class Import(NamedTuple):
    """One import; both names as below `palo_cpp.`."""

    importer: str
    line: int
    imported: str

    def __str__(self) -> str:
        return f"{self.importer or 'palo_cpp'}:{self.line} imports {self.imported or 'palo_cpp'}"


def short(name: str) -> str:
    """Name of a module below `palo_cpp.`."""
    return name.removeprefix("palo_cpp").removeprefix(".")


def room(module: str) -> str:
    return module.partition(".")[0]


def is_within(module: str, area: str) -> bool:
    return module == area or module.startswith(f"{area}.")


def all_modules() -> dict[str, Path]:
    """Full name -> file, of every module as it is installed."""
    found = {}
    for path in (*SOURCES.glob("palo_cpp/**/*.py"), *SOURCES.glob("convert/**/*.py"), SOURCES / "palo_cpp/_core.pyi"):
        name = ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")
        found[name if name.startswith("palo_cpp") else f"palo_cpp.{name}"] = path
    return found


MODULES = all_modules()
PACKAGES = sorted(short(name) for name, path in MODULES.items() if path.name == "__init__.py" and name != "palo_cpp")
ROOMS_WITH_TESTS = sorted({room(name) for name in PACKAGES})


def imports_in(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Lines and full names of the imports anywhere in a module of that package: in functions and for types, too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parent = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                name = f"{parent}.{alias.name}"
                yield node.lineno, name if name in MODULES else parent


def imports_of_palo_cpp() -> list[Import]:
    found = set()
    for name, path in MODULES.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for line, imported in imports_in(path.read_text(encoding="utf-8"), package):
            if is_within(imported, "palo_cpp"):
                found.add(Import(short(name), line, short(imported)))
    return sorted(found)


IMPORTS = imports_of_palo_cpp()
CROSSING = [each for each in IMPORTS if room(each.importer) != room(each.imported)]


def is_in_table(each: Import) -> bool:
    allowed = (*MAY_IMPORT.get(room(each.importer), ()), *LEAVES)
    return any(is_within(each.imported, area) for area in allowed)


def is_excepted(each: Import, exception: tuple[str, str]) -> bool:
    return each.importer == exception[0] and is_within(each.imported, exception[1])


def circle(imports: Iterable[tuple[str, str]]) -> list[str]:
    """Names each of which imports the next, the first and the last the same; none where there is no circle."""
    graph: dict[str, set[str]] = {}
    for importer, imported in imports:
        graph.setdefault(importer, set()).add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found[::-1]
    return []


def test_every_room_is_in_the_table():
    assert {room(short(name)) for name in MODULES} <= set(MAY_IMPORT)


def test_imports_keep_their_direction():
    wrong = [each for each in CROSSING if not is_in_table(each) and not any(is_excepted(each, e) for e in EXCEPTIONS)]
    assert not wrong, "\n".join(map(str, wrong))


def test_every_exception_is_needed():
    beyond = [each for each in CROSSING if not is_in_table(each)]
    assert [e for e in EXCEPTIONS if not any(is_excepted(each, e) for each in beyond)] == []


def test_no_circle_of_rooms():
    assert circle((room(each.importer), room(each.imported)) for each in CROSSING) == []


@pytest.mark.parametrize("name", sorted({room(short(name)) for name in MODULES}))
def test_no_circle_in_a_room(name):
    assert circle((each.importer, each.imported) for each in IMPORTS if room(each.importer) == name) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_room_says_in_three_sentences_what_it_is(package):
    docstring = ast.get_docstring(ast.parse(MODULES[f"palo_cpp.{package}"].read_text(encoding="utf-8")))
    assert docstring
    assert 1 <= len(re.findall(r"[.!?](?=\s|$)", docstring)) <= 3


@pytest.mark.parametrize("name", ROOMS_WITH_TESTS)
def test_room_has_a_folder_of_tests(name):
    assert list((SOURCES / "tests" / name).glob("test_*.py"))


def test_there_are_at_most_thirteen_folders_of_code():
    folders = [path.parent for path in (SOURCES / "palo_cpp").glob("*/__init__.py")]
    assert len(folders) <= 13


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("import palo_cpp.chat.chat", "palo_cpp.chat.chat"),
        ("from palo_cpp.chat.chat import Chat", "palo_cpp.chat.chat"),
        ("from palo_cpp.chat import chat", "palo_cpp.chat.chat"),
        ("from palo_cpp import Palo", "palo_cpp"),
        ("from palo_cpp import _core", "palo_cpp._core"),
        ("from .gguf_header import read_header", "palo_cpp.ggml.gguf_header"),
        ("from . import gguf_header", "palo_cpp.ggml.gguf_header"),
        ("from ..llm.context import Context", "palo_cpp.llm.context"),
        ("if TYPE_CHECKING:\n    from palo_cpp.palo import Palo", "palo_cpp.palo"),
        ("def f():\n    import palo_cpp.palo as door", "palo_cpp.palo"),
    ],
)
def test_reader_sees_every_form_of_import(source, imported):
    assert [name for _, name in imports_in(source, "palo_cpp.ggml")] == [imported]


def test_circle_is_found_and_named():
    assert circle([("a", "b"), ("b", "c"), ("c", "d")]) == []
    assert circle([("a", "b"), ("b", "a"), ("b", "c")]) in (["a", "b", "a"], ["b", "a", "b"])
