"""Fixtures that several of Nano's test modules share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nano.tokenizer import NanoTokenizer


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of Nano's tokenizer, trained as its training does."""
    from nano.tokenizer import train

    path = tmp_path_factory.mktemp("nano") / "tokenizer.model"
    train(path)
    return path


@pytest.fixture(scope="session")
def tokenizer(tokenizer_path: Path) -> NanoTokenizer:
    """Nano's tokenizer."""
    from nano.tokenizer import NanoTokenizer

    return NanoTokenizer(tokenizer_path)


@pytest.fixture
def one_thread() -> None:
    """Torch computes in one thread, as each process of a training run does."""
    import torch

    torch.set_num_threads(1)
