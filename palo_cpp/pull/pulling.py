"""One model from the hub, whatever its repository holds: GGUF files, or a checkpoint that is converted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palo_cpp.hub.settings import is_offline
from palo_cpp.models.file_choice import has_gguf
from palo_cpp.models.files import model_path
from palo_cpp.models.hub_models import HubOptions, cached_model
from palo_cpp.models.names import HubName, hub_name
from palo_cpp.pull.plan import Pull, PullOptions, Watch

_log = logging.getLogger("palo_cpp")


@contextmanager
def opened_pull(name: HubName, options: PullOptions) -> Iterator[Pull]:
    """Look at a repository and plan; a checkpoint's headers are read, and nothing stays after the block.

    Raises:
        DownloadError: the hub refuses or fails.
        ArgumentError: the repository has no model of that type.
        PaloError: the checkpoint cannot be converted.
    """
    from palo_cpp.hub.repository import open_repository

    hub = options.hub
    repository = open_repository(name.repository, hub.revision, download_root=hub.download_root, token=hub.token)
    if has_gguf(repository.files) and not name.variant:
        from palo_cpp.pull.gguf_pull import GgufPull

        yield GgufPull(repository, name)
    else:
        from palo_cpp.pull.checkpoint_pull import opened_checkpoint

        with opened_checkpoint(repository, name, options) as pull:
            yield pull


def bring(model: str | Path | None, hub: HubOptions) -> None:
    """Make sure that a model is here, if it is one of the hub and may be fetched; else finding it says what is wrong.

    Raises:
        DownloadError: the hub refuses or fails.
        ArgumentError: the repository has no model of that type.
        PaloError: its checkpoint could not be converted.
    """
    name = None if not isinstance(model, str) or model_path(model).exists() else hub_name(model)
    if name is None or hub.local_files_only or is_offline() or cached_model(name, hub) is not None:
        return
    with opened_pull(name, PullOptions(hub)) as pull:
        _log.info("fetching %s: %d bytes", name, pull.plan.n_bytes_missing)
        pull.run(Watch())
