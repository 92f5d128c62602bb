"""Pulls from the hub of the tests, whole and interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_hub import Fault, LocalHub

from palo_cpp.errors import DownloadError
from palo_cpp.hub.repository import fetch, open_repository

NAME = "org/name"
LARGE = "large.bin"


def pull(*paths: str, name: str = NAME, **options: str) -> list[Path]:
    """Bring these files, or all, into the cache."""
    opened = open_repository(name, **options)
    return fetch(opened, paths or tuple(opened.files))


def blobs(cache: Path) -> Path:
    """The folder of contents of `NAME`."""
    return cache / "models--org--name" / "blobs"


def interrupt(hub: LocalHub, n_bytes: int = 150_000) -> None:
    """Bring about a download that ended early."""
    hub.faults = [Fault("/lfs/", cut_after=n_bytes, times=8), Fault("/lfs/", status=500)]
    with pytest.raises(DownloadError, match=r"what has arrived is kept$"):
        pull(LARGE)
    hub.faults = []
