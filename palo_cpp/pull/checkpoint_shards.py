"""Brings the files of a checkpoint while it is converted, and removes them again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from palo_cpp.errors import PaloError
from palo_cpp.hub.cache import CachedRepository
from palo_cpp.hub.contents import remove_links
from palo_cpp.hub.repository import DownloadProgress, FileInfo, Repository, fetch
from palo_cpp.pull.checkpoint_parts import Part
from palo_cpp.pull.plan import Watch


class FetchedFiles:
    """Which files were fetched for a conversion, also by processes that died; others belong to somebody else.

    Args:
        path: of the list.
        root: of the cache.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self._path, self._root = path, root
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self._files = {tuple(line.split("\t")) for line in lines if line.count("\t") == 2}

    def add(self, repository: Repository, path: str) -> None:
        """A file that is not here will be fetched."""
        entry = (repository.name, repository.commit, path)
        if entry in self._files or repository.has(path):
            return
        self._files.add(entry)
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\t".join(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self, name: str | None = None, path: str | None = None) -> None:
        """Remove those of a repository, of that path; by default all."""
        for entry in self._files:
            if (name is None or entry[0] == name) and (path is None or entry[2] == path):
                cached = CachedRepository(self._root, entry[0])
                remove_links(cached, [cached.path(entry[1], entry[2])])


class CheckpointShards:
    """Files of weights on the hub: a `convert.reading_order.SourceFiles`.

    Args:
        parts: of the checkpoint.
        fetched: those that are fetched here.
        is_low_disk: whether each goes as soon as it has been read.
        watch: who is told.
    """

    def __init__(self, parts: Iterable[Part], fetched: FetchedFiles, *, is_low_disk: bool, watch: Watch) -> None:
        self._files = {outline: (part.repository, file) for part in parts for outline, file in part.outlined()}
        self._fetched, self._is_low_disk, self._watch = fetched, is_low_disk, watch
        self._n_bytes = sum(file.size for _, file in self._files.values())
        self._n_done = 0

    def fetch_all(self) -> None:
        """Bring all of them, before anything is read."""
        for outline in self._files:
            self._fetch(outline)

    def open(self, path: Path) -> None:
        """Put a file in its outline's place."""
        content = self._fetch(path)
        path.unlink()
        _link(content, path)

    def close(self, path: Path) -> None:
        """Remove a file where room is short, if it was fetched for this."""
        if self._is_low_disk:
            path.unlink()
            repository, file = self._files[path]
            self._fetched.remove(repository.name, file.path)

    def _fetch(self, outline: Path) -> Path:
        repository, file = self._files[outline]
        self._fetched.add(repository, file.path)
        n_before = self._n_done

        def report(progress: DownloadProgress) -> None:
            n = progress.n_bytes_file_done
            self._n_done = max(self._n_done, n_before + n)
            self._watch.download(DownloadProgress(file.path, file.size, n, self._n_bytes, n_before + n))

        [content] = fetch(repository, [file.path], report)
        return content


def _link(content: Path, target: Path) -> None:
    """A link, symbolic or hard: the content is in the cache."""
    for link in (os.symlink, os.link):
        with suppress(OSError):
            link(content.resolve(), target)
            return
    raise PaloError(f"{target}: expected a disk with links, got one without; set HF_HOME to a folder on another disk")


def sizes(parts: Sequence[Part]) -> dict[Path, int]:
    """Bytes that each outlined file will take of the disk; those that are here take none."""

    def missing(part: Part, file: FileInfo) -> int:
        return 0 if part.repository.has(file.path) else file.size

    return {outline: missing(part, file) for part in parts for outline, file in part.outlined()}
