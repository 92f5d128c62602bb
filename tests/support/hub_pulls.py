"""Pulls from the hub of the tests, whole and interrupted; checkpoints on it."""

from __future__ import annotations

import json
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


def publish(hub: LocalHub, folder: Path, *, name: str = "org/small", **repositories: str) -> None:
    """Put a checkpoint and the folders in it on the hub, each in a repository of its own."""
    config = json.loads((folder / "config.json").read_text())
    config["mm_vision_tower"] = repositories["vision_tower"]
    (folder / "config.json").write_text(json.dumps(config))
    if (adapter := folder / "adapter_config.json").exists():
        values = json.loads(adapter.read_text()) | {"base_model_name_or_path": repositories["base"]}
        adapter.write_text(json.dumps(values))
    hub.add(name, {path.name: path for path in folder.iterdir() if path.is_file()})
    for inner, repository in repositories.items():
        hub.add(repository, {path.name: path for path in (folder / inner).iterdir()})
