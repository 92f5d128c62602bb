"""`import palo_cpp` in a clone: the sources there lack the compiled `_core`, and come first on Python's path.

With the clone as the current folder, `python -c`, `python -m` and the interactive interpreter find the clone's
`palo_cpp/` before the installed package, which takes its place.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path

PACKAGE = "palo_cpp"
# What a clone has not: the compiled core, and `convert/`, which is installed from beside the package.
_MISSING = (f"{PACKAGE}._core", f"{PACKAGE}.convert")


def use_installed(folders: Iterable[str]) -> None:
    """Put the installed package in the place of the clone's in `sys.modules`.

    Nothing changes where the clone's has a core, built in place. Where nothing is installed, the clone's modules stay,
    and what needs the core says so when it is imported.

    Args:
        folders: `__path__` of the package that is being imported.
    """
    if _has_core(folders):
        return
    spec = _installed()
    if spec is None or spec.loader is None:
        sys.meta_path.append(_NotInstalled(*folders))
        return
    module = module_from_spec(spec)
    del sys.modules[__name__]  # the clone's, too
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)


def _has_core(folders: Iterable[str]) -> bool:
    return any(Path(folder, f"_core{suffix}").is_file() for folder in folders for suffix in EXTENSION_SUFFIXES)


def _installed() -> ModuleSpec | None:
    """The first package on the path that has its core."""
    specs = (PathFinder.find_spec(PACKAGE, [entry]) for entry in sys.path)
    return next((spec for spec in specs if spec and _has_core(spec.submodule_search_locations or ())), None)


class _NotInstalled:
    """The last finder that Python asks: what it has not found by then is not there."""

    def __init__(self, folder: str, *_: str) -> None:
        self._clone = Path(folder).parent

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """Refuse what only an installed package has.

        Raises:
            ImportError: and not ModuleNotFoundError, which `from palo_cpp import _core` would replace by its own.
        """
        if name in _MISSING:
            raise ImportError(
                f"{name}: could not be imported: {self._clone} holds only the sources of palo_cpp, and it is not "
                "installed for this Python; run `pip install .` there"
            )
