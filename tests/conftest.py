"""Fixtures that many test modules share: a small model converted once per run, and the `Palo` that runs on it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from made_up_images import Images
    from numpy.typing import NDArray

    from palo_cpp import Palo
    from palo_cpp.llm.language_model import LanguageModel
    from palo_cpp.models.loaded_model import LoadedModel

# A run started in the background inherits an ignored Ctrl-C, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# nano/ is not installed. Last on the path, so that the installed palo_cpp stays before the sources, which lack `_core`.
sys.path.append(str(Path(__file__).parent.parent))

# One sentence in each of the ten languages, with an emoji, a joiner and a newline among them.
SENTENCES = {
    "en": "What is in this picture?\nA dog 🐕 runs.",
    "zh": "这张图片里有什么？一只狗在跑。",
    "hi": "इस तस्वीर में क्या है? क्‍या यह कुत्ता है?",
    "es": "¿Qué hay en esta imagen? Un perro corre.",
    "fr": "Qu’y a-t-il sur cette image ? Un chien court.",
    "ar": "ماذا يوجد في هذه الصورة؟ كلب يركض.",
    "bn": "এই ছবিতে কী আছে? একটি কুকুর দৌড়াচ্ছে।",
    "ru": "Что на этой картинке? Собака бежит.",
    "ur": "اس تصویر میں کیا ہے؟ ایک کتا دوڑ رہا ہے۔",
    "ja": "この画像には何が写っていますか？犬が走っています。",
}


@pytest.fixture(autouse=True)
def away_from_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in a folder of its own: in the clone, `python -c` would import the sources, which lack `_core`."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def sentences() -> dict[str, str]:
    """Language code -> a sentence in it."""
    return SENTENCES


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person at stdin who reads stderr, while stdout goes to a file."""
    from palo_cpp.cli import console, line_input

    def is_terminal(stream: object) -> bool:
        return stream in (sys.stdin, sys.stderr)

    monkeypatch.setattr(console, "is_terminal", is_terminal)
    monkeypatch.setattr(line_input, "is_terminal", is_terminal)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(scope="session")
def text_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random LLaMA, without conversion."""
    import tiny_gguf

    return tiny_gguf.write_text_gguf(tmp_path_factory.mktemp("text") / "tiny-F32.gguf")


@pytest.fixture
def language_model(text_gguf: Path) -> Iterator[LanguageModel]:
    """The tiny LLaMA, loaded, with an empty context."""
    from palo_cpp.llm.language_model import LanguageModel

    with LanguageModel(text_gguf, n_threads=1) as model:
        yield model


@pytest.fixture
def images() -> Images:
    """Opens images that are made up."""
    from made_up_images import Images

    return Images()


@pytest.fixture
def loaded(language_model: LanguageModel, images: Images) -> LoadedModel:
    """What conversations share: the tiny LLaMA, an empty cache, images that are made up, no masks."""
    from loaded_models import loaded_model

    return loaded_model(language_model, images)


@pytest.fixture(scope="session")
def checkpoint_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random checkpoint in PALO's published layout."""
    import checkpoints

    return checkpoints.write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "PALO-Small")


@pytest.fixture(scope="session")
def model_dir(checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both GGUF files of that checkpoint; do not write into it."""
    from palo_cpp.convert import convert

    folder = tmp_path_factory.mktemp("model")
    convert(checkpoint_dir, folder)
    return folder


@pytest.fixture(scope="module")
def plain() -> Iterator[Palo]:
    """PALO-Nano on our kernels, without guesses: what guesses must not change."""
    from palo_cpp import Palo

    with Palo("nano", backend="palo", speculation=False) as palo:
        yield palo


@pytest.fixture(scope="session")
def session_palo(model_dir: Path) -> Iterator[Palo]:
    """One `Palo` for the whole run; use `palo`."""
    from palo_cpp import Palo

    with Palo(model_dir, n_threads=1) as palo:  # so small that a second thread would only wait
        yield palo


@pytest.fixture
def palo(session_palo: Palo) -> Palo:
    """The small model, with nothing in its KV cache."""
    session_palo.clear_cache()
    return session_palo


@pytest.fixture(scope="session")
def picture() -> NDArray[np.uint8]:
    """An image that is not square, [80, 120, 3] uint8: coloured gradients."""
    y, x = np.mgrid[0:80, 0:120]
    return np.stack([y * 3, x * 2, (x + y) % 256], axis=-1).astype(np.uint8)


@pytest.fixture(scope="session")
def other_picture(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Another image of the same size."""
    return np.ascontiguousarray(picture[:, ::-1])
