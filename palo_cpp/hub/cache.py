"""The cache on disk, laid out as `huggingface_hub` does it.

models--ORG--NAME/blobs/HASH               the contents, each under its hash
models--ORG--NAME/snapshots/COMMIT/PATH    links to them, by the names of one commit
models--ORG--NAME/refs/main                the commit that a name stands for
.locks/models--ORG--NAME/HASH.lock         held by whoever fetches that content

Where the system has no links, a snapshot holds the contents themselves, and beside the snapshots lies what `hf` does
not keep there:

models--ORG--NAME/palo-hashes/COMMIT/PATH  the hash that the hub gave
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from palo_cpp.errors import ArgumentError, DownloadError
from palo_cpp.hub.hashing import is_hash
from palo_cpp.hub.partial_blob import sync_folder

DEFAULT_REVISION = "main"
_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_COMMIT = re.compile("[0-9a-f]{40}")
_REVISION = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII)
_PREFIX = "models--"


def is_repository_name(name: str) -> bool:
    """Whether a name has the form ORG/NAME of the hub."""
    return bool(_NAME.fullmatch(name)) and ".." not in name and "--" not in name and len(name) <= 96


@dataclass(frozen=True)
class CachedRepository:
    """What the cache holds of one repository; perhaps nothing.

    Attributes:
        root: folder of the cache.
        name: ORG/NAME.
    """

    root: Path
    name: str

    def __post_init__(self) -> None:
        if not is_repository_name(self.name):
            raise ArgumentError(f"repository: expected ORG/NAME, got {self.name[:100]!r}; copy it from the hub")

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self.root / f"{_PREFIX}{self.name.replace('/', '--')}"

    @property
    def blobs(self) -> Path:
        """The contents."""
        return self.folder / "blobs"

    def blob(self, etag: str) -> Path:
        """One content."""
        return self.blobs / etag

    def snapshot(self, commit: str) -> Path:
        """The files of a commit, under their names."""
        return self.folder / "snapshots" / commit

    def path(self, commit: str, path: str) -> Path:
        """Where a file of a commit has its name.

        Raises:
            DownloadError: the name would lie outside the folder.
        """
        check_path(path)
        return self.snapshot(commit) / path

    def commit(self, revision: str = DEFAULT_REVISION) -> str | None:
        """The commit that a revision was when it was fetched last; None where it never was."""
        if _COMMIT.fullmatch(revision):
            return revision if self.snapshot(revision).is_dir() else None
        check_revision(revision)
        try:
            commit = (self.folder / "refs" / revision).read_text().strip()
        except OSError:
            return None
        return commit if _COMMIT.fullmatch(commit) and self.snapshot(commit).is_dir() else None

    def set_commit(self, revision: str, commit: str) -> None:
        """Remember what a revision is now."""
        check_commit(commit)
        if revision == commit:
            return
        check_revision(revision)
        ref = self.folder / "refs" / revision
        if ref.is_file() and ref.read_text() == commit:
            return
        ref.parent.mkdir(parents=True, exist_ok=True)
        new = ref.with_name(f".{ref.name}.{os.getpid()}.new")
        new.write_text(commit)
        new.replace(ref)

    def link(self, commit: str, path: str, etag: str) -> Path:
        """Give a content its name in a commit: a link, or where the system has none the file itself, as `hf` does."""
        target = self.path(commit, path)
        if target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # a link to a content that was removed
        if not _symlink(self.blob(etag), target):
            self._keep_hash(commit, path, etag)
            self.blob(etag).replace(target)
        sync_folder(target.parent)
        return target

    def _keep_hash(self, commit: str, path: str, etag: str) -> None:
        kept = self.kept_hash(self.path(commit, path))
        kept.parent.mkdir(parents=True, exist_ok=True)
        new = kept.with_name(f".{kept.name}.{os.getpid()}.new")
        new.write_text(etag)
        new.replace(kept)

    def kept_hash(self, target: Path) -> Path:
        """Where the hash of a file of a snapshot is kept, if it is no link to a content of that name."""
        return self.folder / "palo-hashes" / target.relative_to(self.folder / "snapshots")

    def expected_hash(self, target: Path) -> str | None:
        """The hash that the hub gave for a file of a snapshot; None where nobody kept it."""
        if target.is_symlink():
            name = content_of(target).name
        else:
            try:
                name = self.kept_hash(target).read_text().strip()
            except (OSError, ValueError):
                return None
        return name if is_hash(name) else None

    def lock(self, etag: str) -> AbstractContextManager[object]:
        """The lock of one content, the one that `hf` takes, too."""
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # in its __init__, not in __all__

        path = self.root / ".locks" / self.folder.name / f"{etag}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return WeakFileLock(path)

    def prepare(self, commit: str) -> None:
        """Make the folders."""
        check_commit(commit)
        try:
            self.blobs.mkdir(parents=True, exist_ok=True)
            self.snapshot(commit).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DownloadError(
                f"{self.folder}: could not be made a folder: {error.strerror}; set HF_HOME to a folder of yours"
            ) from error


def content_of(target: Path) -> Path:
    """The content that a file of a snapshot is a link to, or the file itself.

    Only one step: newer versions of `hf` make the contents links to a store of many repositories, which is theirs.
    """
    return Path(os.path.normpath(target.parent / target.readlink())) if target.is_symlink() else target


def _symlink(blob: Path, target: Path) -> bool:
    from huggingface_hub import constants

    if constants.HF_HUB_DISABLE_SYMLINKS:
        return False
    try:
        target.symlink_to(os.path.relpath(blob, target.parent))
    except OSError:
        return False
    return True


def check_path(path: str) -> None:
    """Refuse a name that would lead out of the folder, on any system.

    Raises:
        DownloadError: it would.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or re.search(r'[\\\0-\x1f:*?"<>|]', path) or len(path) > 1024:
        raise DownloadError(
            f"{path[:200]!r}: expected a path inside the repository, got one that leads out of it or that no system "
            "can write; do not use this repository"
        )


def check_commit(commit: str) -> None:
    """Refuse a commit that is none, before it becomes the name of a folder.

    Raises:
        DownloadError: it is not git's hash.
    """
    if not _COMMIT.fullmatch(commit):
        raise DownloadError(
            f"commit: expected 40 hexadecimal digits from the hub, got {commit[:60]!r}; check HF_ENDPOINT"
        )


def check_revision(revision: str) -> None:
    """Refuse a revision that cannot be one, before it becomes the name of a file.

    Raises:
        ArgumentError: it cannot.
    """
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise ArgumentError(f"revision: expected a branch, a tag or a commit, got {revision[:80]!r}; look at the hub")


def check_room(folder: Path, n_bytes: int) -> None:
    """Refuse a download that the disk cannot take.

    Raises:
        DownloadError: too little is free.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        gib = 1024**3
        raise DownloadError(
            f"{folder}: expected {n_bytes / gib:.1f} GiB of free space, got {free / gib:.1f} GiB; free some, or set "
            "HF_HOME to a folder on another disk"
        )


def repositories_in(root: Path) -> list[CachedRepository]:
    """Everything that the cache holds, whoever fetched it."""
    names = (path.name.removeprefix(_PREFIX).replace("--", "/") for path in sorted(root.glob(f"{_PREFIX}*--*")))
    return [CachedRepository(root, name) for name in names if is_repository_name(name)]
