"""Contents of a cached repository and the names that point to them: what goes when names go."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from palo_cpp.hub.cache import CachedRepository, content_of


def n_bytes_freed_without(cached: CachedRepository, links: Iterable[Path]) -> int:
    """Bytes that would be free if these names went; contents with other names stay, and so does `hf`'s common store."""
    return sum(path.stat().st_size for path in _going(cached, set(links)) if not path.is_symlink())


def remove_links(cached: CachedRepository, links: Iterable[Path]) -> None:
    """Remove names of a repository's snapshots, the contents that then have none, and what is empty after that."""
    going = set(links)
    contents = _going(cached, going)
    for content in contents:  # before the names: a kill in between leaves names, by which the next call finds the rest
        content.unlink(missing_ok=True)
    for path in going:
        path.unlink(missing_ok=True)
        cached.kept_hash(path).unlink(missing_ok=True)
    for top in ("snapshots", "palo-hashes"):
        for folder in sorted((cached.folder / top).rglob("*"), reverse=True):
            with suppress(OSError):  # not empty, or no folder
                folder.rmdir()
    _forget_refs(cached)


def _forget_refs(cached: CachedRepository) -> None:
    """References to commits of which nothing is left go; with the last of them, the repository."""
    snapshots = cached.folder / "snapshots"
    for ref in (cached.folder / "refs").rglob("*"):
        if ref.is_file() and not (snapshots / ref.read_text().strip()).is_dir():
            ref.unlink()
    if not any(snapshots.glob("*")) and not any(cached.blobs.glob("*")):
        shutil.rmtree(cached.folder, ignore_errors=True)


def _going(cached: CachedRepository, links: set[Path]) -> set[Path]:
    """Contents that only these names point to; where the system has no links, the files themselves."""
    names = (path for path in (cached.folder / "snapshots").rglob("*") if path not in links and path.is_file())
    return {content_of(path) for path in links if path.is_file()} - set(map(content_of, names))
