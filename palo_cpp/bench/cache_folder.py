"""Where random models are kept between runs, and how they are removed."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

# Counts changes of what a seed makes; older files are not taken, and removed with the rest.
_GENERATION = 1


def cache_folder() -> Path:
    """`$PALO_CPP_CACHE`, or the platform's folder for a user's caches."""
    if chosen := os.environ.get("PALO_CPP_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "palo_cpp"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "palo_cpp" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "palo_cpp"


def synthetic_folder(name: str) -> Path:
    """Folder of one random model."""
    return cache_folder() / "synthetic" / f"v{_GENERATION}" / name


@dataclass(frozen=True)
class CachedFile:
    """One file of the cache: where it is, and its size."""

    path: Path
    n_bytes: int


def cached_files(name: str | None = None) -> list[CachedFile]:
    """The files of random models, of all or of one, unfinished ones of interrupted runs included."""
    folder = cache_folder() / "synthetic"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [CachedFile(path, path.stat().st_size) for path in files if name in (None, path.parent.name)]


def remove_synthetic(name: str | None = None) -> list[CachedFile]:
    """Remove the random models, all or one, and the folders that become empty.

    Args:
        name: as in `synthetic_folder`; None for all.

    Returns:
        What was removed.
    """
    removed = cached_files(name)
    for file in removed:
        file.path.unlink(missing_ok=True)
    root = cache_folder() / "synthetic"
    folders = sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True)
    for folder in (*folders, root):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return removed
