"""Loads the model of a command; the only place that does, so that tests can replace it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palo_cpp.cli.options import ModelOptions

if TYPE_CHECKING:
    from palo_cpp import Palo


def open_palo(options: ModelOptions, *images: str | bytes) -> Palo:
    """Load the model that the options name, for images that are looked at first: loading takes seconds.

    Raises:
        ImageError: one of the images is not there, or is no image.
        PaloError: it does not exist, is damaged, or would not fit into memory.
    """
    from palo_cpp import Palo
    from palo_cpp.vision.image import check_image

    for image in images:
        check_image(image)
    return Palo(
        options.model,
        n_ctx=options.n_ctx,
        n_threads=options.n_threads,
        preprocess=options.preprocess,
        vision_precision=options.vision_precision,
        backend=options.backend,
        draft=options.draft,
        embedding_cache_dir=options.embedding_cache,
    )
