"""The way of one question through the package: modules and rooms entered, calls between them, calls back up.

    python benchmarks/question_path.py [--pairs]

Counts calls of palo_cpp's own Python functions, in all threads, while PALO-Nano answers one question about one image
with one token; what is built once for a language was built by a question before. A call crosses a border when the
nearest function of palo_cpp above it on the stack is in another module. It goes into another room, or into a leaf: a
module beside the rooms, like `segments`. It climbs when its room is above its caller's in `ROOMS`, which only callables
and Protocols make possible. Lengths and letters are many and lead nowhere, so a second column leaves them out.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from palo_cpp import Palo

IMAGE = Path(__file__).parents[1] / "examples" / "scene.png"
QUESTION, LANGUAGE = "What is this?", "hi"

# A room imports those after it, and leaves (tests/test_rooms.py).
ROOMS = ("palo", "chat", "models", "families", "decoding", "vision", "llm", "languages", "ggml")
LENGTHS_AND_LETTERS = ("__len__", "script_of")


class Call(NamedTuple):
    """A call from one module into another; names are those below `palo_cpp.`."""

    caller: str
    callee: str
    function: str

    @property
    def is_small(self) -> bool:
        """A length, or the script of a letter."""
        return self.function in LENGTHS_AND_LETTERS

    @property
    def enters_room(self) -> bool:
        """Whether it goes from one room into another."""
        return room(self.caller) != room(self.callee) and not self.enters_leaf

    @property
    def enters_leaf(self) -> bool:
        """Whether it goes into a module beside the rooms."""
        return room(self.callee) not in ROOMS

    @property
    def climbs(self) -> bool:
        """Whether it goes against the order of imports."""
        return floor(self.callee) < floor(self.caller)


def room(module: str) -> str:
    """Room of a module: its folder, or itself beside the folders."""
    return module.partition(".")[0]


def floor(module: str) -> int:
    """Place of its room in `ROOMS`; leaves come last."""
    return ROOMS.index(room(module)) if room(module) in ROOMS else len(ROOMS)


class Recorder:
    """A profile function that keeps what is called while `is_on`."""

    def __init__(self) -> None:
        self.is_on = False
        self.modules: set[str] = set()
        self.calls: list[Call] = []
        self.deepest = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Keep a call of one of palo_cpp's functions; see `sys.setprofile`."""
        if not self.is_on or event != "call" or not _module(frame):
            return
        stack = list(_own_frames(frame))
        if not all(each.f_code.co_flags & inspect.CO_OPTIMIZED for each in stack):
            return  # a module or a class that is being imported, and what its top level calls
        modules = [_module(each) for each in stack]
        self.modules.add(modules[0])
        self.deepest = max(self.deepest, len(stack))
        if len(stack) > 1 and modules[0] != modules[1]:
            self.calls.append(Call(modules[1], modules[0], frame.f_code.co_name))


def _module(frame: FrameType) -> str:
    """Name of the frame's module below `palo_cpp.`; empty for other packages and for code that dataclasses generate."""
    package, _, module = frame.f_globals.get("__name__", "").partition(".")
    return module if package == "palo_cpp" and not frame.f_code.co_filename.startswith("<") else ""


def _own_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Frames of palo_cpp, from this one outwards."""
    while frame is not None:
        if _module(frame):
            yield frame
        frame = frame.f_back


def record(max_tokens: int = 1) -> Recorder:
    """Ask PALO-Nano once.

    Args:
        max_tokens: length of the answer, in tokens.

    Returns:
        What was called from `Palo.ask` on.
    """
    recorder = Recorder()
    threading.setprofile(recorder)  # threads that start from now on, those of the model among them
    with Palo("nano") as palo:
        palo.ask(None, QUESTION, lang=LANGUAGE, max_tokens=1)
        palo.clear_cache()
        sys.setprofile(recorder)
        recorder.is_on = True
        palo.ask(IMAGE, QUESTION, lang=LANGUAGE, max_tokens=max_tokens)
        recorder.is_on = False
        sys.setprofile(None)
    threading.setprofile(None)
    return recorder


def print_counts(recorder: Recorder) -> None:
    """Print the table."""
    print(f"{'':28}{'all':>6}  without lengths and letters")
    for name, found in (
        ("calls into another module", recorder.calls),
        ("  of them into another room", [call for call in recorder.calls if call.enters_room]),
        ("  of them into a leaf", [call for call in recorder.calls if call.enters_leaf]),
        ("  of them back up", [call for call in recorder.calls if call.climbs]),
    ):
        print(f"{name:28}{len(found):6}{sum(not call.is_small for call in found):6}")
    print(f"{'modules entered':28}{len(recorder.modules):6}")
    print(f"{'rooms entered':28}{len({room(module) for module in recorder.modules} & set(ROOMS)):6}")
    print(f"{'deepest stack, own frames':28}{recorder.deepest:6}")


def print_borders(calls: list[Call]) -> None:
    """Print each border with its calls, and the functions that are above their callers."""
    for (caller, callee), n in Counter((call.caller, call.callee) for call in calls).most_common():
        climbing = sorted({call.function for call in calls if call[:2] == (caller, callee) and call.climbs})
        print(f"{n:5}  {caller} -> {callee}" + (f"  up: {', '.join(climbing)}" if climbing else ""))


def main() -> None:
    """Record and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", action="store_true", help="list the borders, and what climbs across each")
    parser.add_argument("--tokens", type=int, default=1, help="length of the answer")
    options = parser.parse_args()
    recorder = record(options.tokens)
    print_counts(recorder)
    if options.pairs:
        print_borders(recorder.calls)


if __name__ == "__main__":
    main()
