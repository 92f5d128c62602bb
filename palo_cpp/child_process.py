"""Another process of this Python, which imports the modules of this one; the current folder shadows none of them.

Python puts the current folder first on its path for `-c` and `-m`, where a `palo_cpp/` or `random.py` that lies there
would be imported instead of the real one. `-P`, which prevents that, is there from 3.11 on; `-I` also hides
PYTHONPATH and the user's own packages; a prologue under `-c` comes too late, for 3.13 imports `linecache` before it.
So this file is run as a script, and takes the path of the process that starts it.
"""

from __future__ import annotations

import os
import sys


def child_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module as `python -m` would, for `subprocess`.

    Args:
        module: its full name.
        arguments: what it finds in `sys.argv[1:]`.
    """
    return [sys.executable, os.path.abspath(__file__), _import_path(), module, *arguments]  # noqa: PTH100  # no imports


def _import_path() -> str:
    """`sys.path` with the current folder last; it stays, for palo_cpp itself may have been imported from there."""
    current = os.path.realpath(os.curdir)
    folders = [path for path in sys.path if isinstance(path, str)]  # the import system skips the others
    return os.pathsep.join(sorted(folders, key=lambda path: os.path.realpath(path) == current))


def _main() -> None:
    _, path, *sys.argv = sys.argv
    sys.path[:] = path.split(os.pathsep)
    import runpy  # only now: the script's own folder came first on the path

    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
