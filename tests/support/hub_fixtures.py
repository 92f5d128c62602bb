"""Fixtures: a hub on this machine, and an empty cache; a conftest imports what its tests use."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_repository import Repository
from huggingface_hub import constants
from local_hub import LocalHub, local_hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache, for this process and its children."""
    home = tmp_path / "home"
    for name in [name for name in os.environ if name.startswith("HF_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    return home / "hub"


@pytest.fixture
def hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """The hub, as HF_ENDPOINT, with an empty cache."""
    request.getfixturevalue("cache")
    request.getfixturevalue("no_long_waits")
    with local_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield running


@pytest.fixture
def content() -> bytes:
    """5 MiB and a bit, in several parts."""
    return random.Random(16).randbytes(5 * (1 << 20) + 12345)


@pytest.fixture
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries that follow at once."""
    monkeypatch.setattr("palo_cpp.hub.refusals._FIRST_WAIT_S", 0.001)
    monkeypatch.setattr("palo_cpp.hub.refusals._LONGEST_WAIT_S", 0.002)


@pytest.fixture
def repository(hub: LocalHub, content: bytes) -> Repository:
    """`org/name` on the hub: small files, an empty one, and a large one."""
    return hub.add("org/name", {"config.json": b"{}", "large.bin": content, "empty": b"", "a/b c.txt": "বাংলা".encode()})
