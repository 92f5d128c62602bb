"""What a model hub keeps, for tests: files, repositories of them, and what its API says of one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LFS_FROM = 4096  # bytes; smaller files are in git itself


class HubFile:
    """One file of a repository, in memory or on disk.

    Args:
        content: its bytes, or where they are.
        lfs: whether it is in the store of large files; by default its size decides.
        said_sha256: hash that the hub gives for it, where that is a lie.
        said_size: the same for its size.
    """

    def __init__(
        self, content: bytes | Path, *, lfs: bool | None = None, said_sha256: str = "", said_size: int | None = None
    ) -> None:
        self.content = content
        self.size = content.stat().st_size if isinstance(content, Path) else len(content)
        self.lfs = self.size >= _LFS_FROM if lfs is None else lfs
        self.said_size = self.size if said_size is None else said_size
        self.sha256 = said_sha256 or self._digest(hashlib.sha256())
        self.blob_id = self._digest(hashlib.sha1(b"blob %d\0" % self.size))

    def _digest(self, hasher: Any) -> str:
        if isinstance(self.content, bytes):
            hasher.update(self.content)
            return str(hasher.hexdigest())
        with self.content.open("rb") as file:
            while block := file.read(1 << 20):
                hasher.update(block)
        return str(hasher.hexdigest())

    def read(self, start: int, end: int) -> bytes:
        if isinstance(self.content, bytes):
            return self.content[start:end]
        with self.content.open("rb") as source:
            source.seek(start)
            return source.read(end - start)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id


@dataclass
class Repository:
    """Files by path, and who may read them."""

    files: dict[str, HubFile]
    gated: bool = False
    private: bool = False
    moved_to: str = ""  # the API and `resolve` redirect to that name

    @property
    def commit(self) -> str:
        """Changes with the files, as git's does."""
        text = "".join(f"{path} {file.blob_id}\n" for path, file in sorted(self.files.items()))
        return hashlib.sha1(text.encode()).hexdigest()


def model_info(name: str, repository: Repository, query: dict[str, list[str]]) -> dict[str, object]:
    """What `/api/models/NAME` answers."""
    siblings = []
    for path, file in repository.files.items():
        entry: dict[str, object] = {"rfilename": path}
        if query.get("blobs"):
            entry |= {"size": file.said_size, "blobId": file.blob_id}
            if file.lfs:
                entry["lfs"] = {"sha256": file.sha256, "size": file.said_size, "pointerSize": 134}
        siblings.append(entry)
    gated = "manual" if repository.gated else False
    common = {"id": name, "modelId": name, "_id": "0" * 24, "sha": repository.commit, "tags": [], "downloads": 0}
    return {**common, "private": repository.private, "gated": gated, "disabled": False, "siblings": siblings}


def file_tree(repository: Repository) -> list[dict[str, object]]:
    """What `/api/models/NAME/tree/REVISION` answers."""
    entries: list[dict[str, object]] = []
    for path, file in sorted(repository.files.items()):
        entry: dict[str, object] = {"type": "file", "path": path, "size": file.said_size, "oid": file.blob_id}
        if file.lfs:
            entry["lfs"] = {"oid": file.sha256, "size": file.said_size, "pointerSize": 134}
        entries.append(entry)
    return entries
