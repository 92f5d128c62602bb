"""Contents and the hashes that they are to have: with links, without, and in a store of many repositories."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

import pytest
from hub_pulls import LARGE, NAME, pull
from huggingface_hub import constants, hf_hub_download, scan_cache_dir

from palo_cpp.hub.cache import CachedRepository, content_of
from palo_cpp.hub.contents import n_bytes_freed_without, remove_links


def test_systems_without_links_keep_the_hashes(hub, cache, repository, content, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    paths = pull()
    cached = CachedRepository(cache, NAME)
    got = {path.name: cached.expected_hash(path) for path in paths}
    assert got == {PurePosixPath(path).name: file.etag for path, file in repository.files.items()}
    assert not scan_cache_dir(cache).warnings
    kept = cached.kept_hash(paths[1])
    remove_links(cached, [paths[1]])
    assert not paths[1].exists() and not kept.exists()
    remove_links(cached, paths)
    assert not cached.folder.exists()


@pytest.mark.parametrize("n_unlinked", range(4))
def test_the_next_removal_finishes_one_that_was_killed(hub, cache, repository, monkeypatch, n_unlinked):
    path, cached, unlink = pull(LARGE)[0], CachedRepository(cache, NAME), Path.unlink
    n_left = n_unlinked

    def killed(file: Path, **options: bool) -> None:
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            raise KeyboardInterrupt
        unlink(file, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", killed)
        remove_links(cached, [path])
    assert cached.folder.exists()
    remove_links(cached, [path])
    assert not cached.folder.exists()


def test_the_hash_of_what_hf_downloaded(hub, cache, repository, monkeypatch):
    cached = CachedRepository(cache, NAME)
    assert cached.expected_hash(Path(hf_hub_download(NAME, LARGE))) == repository.files[LARGE].sha256
    shutil.rmtree(cache)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    assert cached.expected_hash(Path(hf_hub_download(NAME, LARGE))) is None


def test_contents_of_other_repositories_stay(hub, cache, repository):
    """As newer versions of `hf` keep them: a content is a link to a store beside the repositories."""
    path = pull(LARGE)[0]
    cached, store = CachedRepository(cache, NAME), cache / "blobs" / "ab" / "content"
    store.parent.mkdir(parents=True)
    blob = content_of(path)
    blob.replace(store)
    blob.symlink_to(store)
    assert cached.expected_hash(path) == repository.files[LARGE].sha256
    assert n_bytes_freed_without(cached, [path]) == 0
    remove_links(cached, [path])
    assert store.exists() and not blob.is_symlink() and not cached.folder.exists()
