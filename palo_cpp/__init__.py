"""Ask about an image in ten languages, on an ordinary CPU.

    from palo_cpp import Palo
    palo = Palo("models/PALO-7B")
    print(palo.ask("photo.jpg", "इस तस्वीर में क्या है?", lang="hi").text)

Everything is imported when it is first used: `import palo_cpp` itself loads no model code.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palo_cpp.chat.answer import Answer as Answer
    from palo_cpp.chat.answer import AnswerStream as AnswerStream
    from palo_cpp.chat.answer import Inputs as Inputs
    from palo_cpp.chat.answer import Piece as Piece
    from palo_cpp.chat.answer import Timings as Timings
    from palo_cpp.chat.chat import Chat as Chat
    from palo_cpp.decoding.options import DecodingOptions as DecodingOptions
    from palo_cpp.errors import ArgumentError as ArgumentError
    from palo_cpp.errors import ImageError as ImageError
    from palo_cpp.errors import ModelFormatError as ModelFormatError
    from palo_cpp.errors import ModelNotFoundError as ModelNotFoundError
    from palo_cpp.errors import OutOfMemoryError as OutOfMemoryError
    from palo_cpp.errors import PaloError as PaloError
    from palo_cpp.errors import SessionError as SessionError
    from palo_cpp.palo import Palo as Palo

__version__: str

# Beside csrc/ this is a clone, to be left for the installed package; an editable installation has more than one folder.
_csrc = f"{os.path.dirname(__file__)}/../csrc"  # noqa: PTH120  # pathlib is slow to import
if len(__path__) == 1 and os.path.isdir(_csrc):  # noqa: PTH112
    from palo_cpp.clone import use_installed

    use_installed(__path__)

# The library never prints: without a handler of the program's own, its log goes nowhere.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_MODULES = {
    "chat.answer": ("Answer", "AnswerStream", "Inputs", "Piece", "Timings"),
    "chat.chat": ("Chat",),
    "decoding.options": ("DecodingOptions",),
    "errors": (
        *("ArgumentError", "ImageError", "ModelFormatError", "ModelNotFoundError", "OutOfMemoryError", "PaloError"),
        "SessionError",
    ),
    "palo": ("Palo",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("palo-cpp")
    elif name in _HOME:
        value = getattr(importlib.import_module(f"palo_cpp.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
