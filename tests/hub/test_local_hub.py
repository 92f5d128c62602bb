"""The hub of the tests is a hub: `huggingface_hub`'s own client downloads from it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hub_repository import HubFile
from local_hub import TOKEN

CLIENT = """
import sys
from huggingface_hub import HfApi, hf_hub_download, snapshot_download, scan_cache_dir
from pathlib import Path
name = sys.argv[1]
folder = Path(snapshot_download(name))
assert hf_hub_download(name, "large.bin") == str(folder / "large.bin")
assert hf_hub_download(name, "large.bin", local_files_only=True) == str(folder / "large.bin")
info = HfApi().model_info(name, files_metadata=True)
assert {each.rfilename: each.size for each in info.siblings} == {
    path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()
}
assert not scan_cache_dir().warnings
"""


def run_client(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    command = [sys.executable, "-c", CLIENT, name]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)


@pytest.fixture
def files(content) -> dict[str, bytes]:
    return {"config.json": b"{}", "large.bin": content, "sub/folder/small.txt": "বাংলা".encode()}


def test_its_own_client_downloads_from_it(hub, cache, files):
    repository = hub.add("org/name", files)
    done = run_client("org/name")
    assert done.returncode == 0, done.stderr
    folder = cache / "models--org--name" / "snapshots" / repository.commit
    assert {path: (folder / path).read_bytes() for path in files} == files
    assert {request.server for request in hub.requests} == {"endpoint", "store"}


def test_gated_needs_the_token(hub, files):
    hub.add("org/gated", files, gated=True)
    assert "GatedRepoError" in run_client("org/gated").stderr
    assert run_client("org/gated", HF_TOKEN=TOKEN).returncode == 0
    assert not [r for r in hub.requests if r.server == "store" and "authorization" in r.headers]


@pytest.mark.parametrize(
    ("name", "error"), [("org/none", "RepositoryNotFoundError"), ("org/private", "RepositoryNotFoundError")]
)
def test_what_is_not_there(hub, files, name, error):
    hub.add("org/private", files, private=True)
    assert error in run_client(name, HF_TOKEN="").stderr


def test_a_lie_about_the_size_is_found_by_its_client_too(hub, content):
    hub.add("org/name", {"large.bin": HubFile(content, said_size=len(content) + 1)})
    assert "size" in run_client("org/name").stderr
