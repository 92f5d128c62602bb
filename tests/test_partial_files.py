"""Unfinished files: those of killed runs go, those of a run at work stay."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from palo_cpp.partial_files import partial_files

# Begins a file and waits; a line on stdin has it finish.
WRITER = """
import sys
from pathlib import Path
from palo_cpp.partial_files import partial_files

folder = Path(sys.argv[1])
with partial_files(folder, 0) as files:
    path = files.new("model.gguf")
    path.with_name(path.name + ".begun").write_text("half")
    path.write_text("whole")
    print("begun", flush=True)
    if sys.stdin.readline():
        path.with_name(path.name + ".begun").unlink()
        files.publish({path: "model.gguf"})
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked there, and there is no SIGKILL")


@contextmanager
def writer(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process at work in a folder."""
    command = [sys.executable, "-c", WRITER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        yield process


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def begin(folder: Path) -> None:
    with partial_files(folder, 0):
        pass


@posix
def test_what_a_killed_run_left_goes_before_room_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writer(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
    assert len(names(tmp_path)) == 2
    seen = []
    monkeypatch.setattr("palo_cpp.partial_files._check_room", lambda folder, _n_bytes: seen.append(names(folder)))
    begin(tmp_path)
    assert (seen, names(tmp_path)) == ([[]], [])


@posix
def test_what_a_run_is_at_work_on_stays(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        before = names(tmp_path)
        begin(tmp_path)
        assert names(tmp_path) == before
        process.communicate("go on\n", timeout=60)
    assert (process.returncode, names(tmp_path)) == (0, ["model.gguf"])


@posix
def test_two_runs_of_one_process_know_of_each_other(tmp_path: Path) -> None:
    with partial_files(tmp_path, 0) as first:
        path = first.new("a.gguf")
        path.write_text("a")
        with partial_files(tmp_path, 0) as second:
            second.new("a.gguf").write_text("b")
        first.publish({path: "a.gguf"})
    assert (tmp_path / "a.gguf").read_text() == "a"
    assert names(tmp_path) == ["a.gguf"]


def test_nothing_else_goes(tmp_path: Path) -> None:
    others = [".notes.partial-1", "notes.partial-0123abcd", ".a.gguf.partial-0123abcd~", ".partial-0123abcd", "a.gguf"]
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".folder.partial-0123abcd").mkdir()
    (tmp_path / ".a.gguf.partial-0123abcd").write_text("half")
    begin(tmp_path)
    assert names(tmp_path) == sorted([*others, ".folder.partial-0123abcd"])


@posix
def test_a_folder_that_cannot_be_locked_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_descriptor: int, _operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    (tmp_path / ".a.gguf.partial-0123abcd").write_text("another run's, for all that is known")
    with partial_files(tmp_path, 0) as files:
        path = files.new("b.gguf")
        path.write_text("b")
        files.publish({path: "b.gguf"})
    assert names(tmp_path) == [".a.gguf.partial-0123abcd", "b.gguf"]
