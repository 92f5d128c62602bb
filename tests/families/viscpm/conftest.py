"""A small random VisCPM-Chat, converted once per run, for tests that use it as people do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from palo_cpp.convert import convert
from viscpm_checkpoint import write_viscpm_checkpoint

from palo_cpp import Palo


@pytest.fixture(scope="session")
def viscpm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its two files."""
    checkpoint = write_viscpm_checkpoint(tmp_path_factory.mktemp("checkpoint") / "VisCPM-Chat")
    return convert(checkpoint, tmp_path_factory.mktemp("viscpm")).model_path.parent


@pytest.fixture(scope="session")
def text_folder(viscpm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its language model alone."""
    folder = tmp_path_factory.mktemp("cpm-bee")
    shutil.copy(next(viscpm_folder.glob("VisCPM*.gguf")), folder)
    return folder


@pytest.fixture
def picture_file(picture: NDArray[np.uint8], tmp_path: Path) -> Path:
    """A picture in a file."""
    path = tmp_path / "picture.png"
    PIL.Image.fromarray(picture).save(path)
    return path


@pytest.fixture
def viscpm(viscpm_folder: Path) -> Iterator[Palo]:
    """It, loaded."""
    with Palo(viscpm_folder, n_ctx=300, n_threads=1) as palo:
        yield palo
