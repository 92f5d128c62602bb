"""Loads the model of a command; the only place that does, so that tests can replace it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from palo_cpp.cli.console import is_terminal
from palo_cpp.cli.options import ModelOptions

if TYPE_CHECKING:
    from palo_cpp import Palo


def open_palo(options: ModelOptions, *images: str | bytes, n_parallel: int = 1) -> Palo:
    """Load the model that the options name, for images that are looked at first: loading takes seconds.

    Args:
        options: which, and how.
        images: what will be asked about.
        n_parallel: answers at once that have room in the context.

    Raises:
        ImageError: one of the images is not there, or is no image.
        PaloError: it does not exist, is damaged, or would not fit into memory.
    """
    from palo_cpp import Palo
    from palo_cpp.vision.image import check_image

    for image in images:
        check_image(image)
    _offer_to_pull(options.model)
    return Palo(
        options.model,
        n_ctx=options.n_ctx,
        n_threads=options.n_threads,
        n_parallel=n_parallel,
        preprocess=options.preprocess,
        vision_precision=options.vision_precision,
        backend=options.backend,
        draft=options.draft,
        embedding_cache_dir=options.embedding_cache,
        local_files_only=True,
    )


def _offer_to_pull(model: str) -> None:
    """Fetch a model of the hub that is not here, if somebody is there and agrees."""
    from palo_cpp.hub.settings import is_offline
    from palo_cpp.models.files import model_path
    from palo_cpp.models.hub_models import CACHE_ONLY, cached_model
    from palo_cpp.models.names import hub_name

    name = None if model_path(model).exists() else hub_name(model)
    is_asked = is_terminal(sys.stdin) and is_terminal(sys.stderr) and not is_offline()
    if name is not None and is_asked and cached_model(name, CACHE_ONLY) is None:
        from palo_cpp.cli.pull import pull
        from palo_cpp.pull.plan import PullOptions

        pull(name, PullOptions())
