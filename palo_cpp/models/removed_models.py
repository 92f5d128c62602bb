"""Models that go out of the hub's cache, or what was converted or carried: what `palo-cpp rm` does."""

from __future__ import annotations

import shutil
from pathlib import Path

from palo_cpp.hub.cache import CachedRepository
from palo_cpp.hub.contents import n_bytes_freed_without, remove_links
from palo_cpp.hub.partial_blob import partials_in, remove_partial
from palo_cpp.hub.settings import cache_folder
from palo_cpp.models.checksums import SUMS, forget_sums
from palo_cpp.models.file_choice import outtype_of, texts_in
from palo_cpp.models.hub_models import converted_folder
from palo_cpp.models.kept_models import finished_in, hub_folders, interrupted_in, not_kept
from palo_cpp.models.names import HubName
from palo_cpp.partial_files import n_bytes_on_disk


def remove_model(name: HubName, download_root: str | Path | None = None) -> int:
    """Remove a model, or with no type everything that is here of its repository.

    Returns:
        Bytes that this freed; contents that another revision needs stay.

    Raises:
        ModelNotFoundError: nothing of it is here.
    """
    root = cache_folder(download_root)
    cached = CachedRepository(root, name.repository)
    links = [link for folder in hub_folders(cached, name) for link in _going(folder, name.outtype)]
    folder = converted_folder(root, name)
    converted = _going(folder, name.outtype)
    partly = [] if name.variant else partials_in(cached.blobs)
    partials = [each for each in partly if name.outtype in (None, outtype_of(each[0].path))]
    interrupted = [path for each, path in interrupted_in(root) if _is_meant(each, name)]
    if not links and not converted and not partials and not interrupted:
        raise not_kept(name)
    n_freed = n_bytes_freed_without(cached, links) + sum(path.stat().st_size for path in converted)
    for blob, n_here in partials:
        remove_partial(cached.blobs, blob.etag)
        n_freed += n_here
    for path in interrupted:
        n_freed += sum(n_bytes_on_disk(each) for each in path.rglob("*") if each.is_file())
        shutil.rmtree(path)
    remove_links(cached, links)
    _remove_converted(folder, converted)
    return n_freed


def _is_meant(each: HubName, name: HubName) -> bool:
    return each.local == name.local and name.outtype in (None, each.outtype)


def _going(folder: Path, outtype: str | None) -> list[Path]:
    """Files of a folder that go: all, or those of one type; the mmproj files go with the last language model."""
    if outtype is None:
        return [path for path in folder.rglob("*") if not path.is_dir()]
    paths = finished_in(folder)
    texts = texts_in(paths)
    going = [path for path in texts if outtype_of(path) == outtype]
    if going and len(going) == len(texts):
        return [folder / path for path in paths]
    return [folder / path for path in going]


def _remove_converted(folder: Path, going: list[Path]) -> None:
    for path in going:
        path.unlink()
    if not folder.is_dir():
        return
    if any(path.name != SUMS for path in folder.iterdir() if path.is_file()):
        forget_sums(folder, [path.name for path in going])
    else:  # with what a conversion that was interrupted left
        shutil.rmtree(folder)


def remove_file(name: HubName, path: Path, download_root: str | Path | None = None) -> None:
    """Remove one content, with all names that it has, so that the next pull makes it new.

    Args:
        name: of the model.
        path: one of its names.
        download_root: folder of the cache; None is the hub's own.
    """
    root = cache_folder(download_root)
    if path.parent == converted_folder(root, name):
        _remove_converted(path.parent, [path])
        return
    cached = CachedRepository(root, name.repository)
    names = (each for each in (cached.folder / "snapshots").rglob("*") if each.is_file())
    remove_links(cached, [each for each in names if each.samefile(path)])
