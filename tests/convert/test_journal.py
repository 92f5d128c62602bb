"""Conversions that go on where their process died."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import checkpoints
import pytest
from palo_cpp.convert import Progress, convert
from palo_cpp.convert.conversion import Resumption, convert_checkpoint
from palo_cpp.convert.families import Companions
from palo_cpp.convert.journal import Journal
from palo_cpp.convert.reading_order import most_bytes_at_once, reading_steps

TYPES = {"text": "q4_0", "mmproj": "f16"}


class Stopped(BaseException):
    pass


class Files:
    """Counts which files are opened, and stops when the n-th is closed."""

    def __init__(self, stop_at: int = 0) -> None:
        self.opened: list[str] = []
        self.closed: list[str] = []
        self._stop_at = stop_at

    def open(self, path: Path) -> None:
        self.opened.append(path.name)

    def close(self, path: Path) -> None:
        self.closed.append(path.name)
        if len(self.closed) == self._stop_at:
            raise Stopped


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return checkpoints.write_checkpoint(tmp_path / "Small", n_shards=3, clip_inside=False)


def run(source: Path, files: Files, *, source_id: str = "a", **options: object) -> None:
    folder = source.parent
    resumption = Resumption(folder / "unfinished", source_id)
    companions = Companions(source / "vision_tower")
    convert_checkpoint(
        source, folder / "out", companions, TYPES, name=None, files=files, resumption=resumption, **options
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_goes_on_after_each_file(source, tmp_path):
    whole = convert(source, tmp_path / "whole", outtype="q4_0", vision_tower=source / "vision_tower")
    for stop_at in (1, 2, 3):
        stopped, rest = Files(stop_at), Files()
        with pytest.raises(Stopped):
            run(source, stopped)
        assert {path.suffix for path in (tmp_path / "unfinished").iterdir()} == {"", ".gguf"}
        run(source, rest)
        assert len(stopped.closed) + len(rest.closed) == 4
        assert not set(stopped.closed) & set(rest.opened), "what was on the disk was read again"
        assert contents(tmp_path / "out") == contents(whole.model_path.parent)
        assert not (tmp_path / "unfinished").exists()


def test_what_was_not_entered_is_written_again(source, tmp_path):
    def stop(progress: Progress) -> None:
        if progress.n_tensors_done == 8:  # in the middle of a file
            raise Stopped

    with pytest.raises(Stopped):
        run(source, Files(), progress=stop)
    rest = Files()
    run(source, rest)
    assert len(rest.opened) == 4
    whole = convert(source, tmp_path / "whole", outtype="q4_0", vision_tower=source / "vision_tower")
    assert contents(tmp_path / "out") == contents(whole.model_path.parent)


@pytest.mark.parametrize("change", ["source", "journal", "half a line"])
def test_another_source_or_a_damaged_journal(source, tmp_path, change):
    with pytest.raises(Stopped):
        run(source, Files(2))
    journal = tmp_path / "unfinished" / "journal"
    text = journal.read_text()
    if change == "journal":
        journal.write_text("")
    elif change == "half a line":
        journal.write_text(text[:-40])
    rest = Files()
    run(source, rest, source_id="b" if change == "source" else "a")
    assert len(rest.opened) == (3 if change == "half a line" else 4)
    whole = convert(source, tmp_path / "whole", outtype="q4_0", vision_tower=source / "vision_tower")
    assert contents(tmp_path / "out") == contents(whole.model_path.parent)


def test_without_a_folder_nothing_is_written(tmp_path):
    journal = Journal(None, "x")
    journal.add({"text/a": "0" * 64})
    assert journal.digests == {"text/a": "0" * 64}
    assert not list(tmp_path.iterdir())


def test_steps_read_one_file_after_the_other(source, tmp_path):
    plan = convert(source, tmp_path / "out", vision_tower=source / "vision_tower", dry_run=True).plan
    steps = reading_steps(plan.files)
    assert len(steps) == sum(len(file.tensors) for file in plan.files)
    paths = [step.tensor.paths[0] for step in steps]
    assert len(set(paths)) == 4 == sum(a != b for a, b in pairwise(paths)) + 1
    sizes = {path: path.stat().st_size for path in set(paths)}
    assert most_bytes_at_once(steps, sizes.__getitem__) == max(sizes.values())


def test_an_adapter_is_needed_to_the_end(tmp_path):
    source = checkpoints.write_checkpoint(tmp_path / "Lora", lora=True, clip_inside=False)
    plan = convert(source, tmp_path / "out", vision_tower=source / "vision_tower", dry_run=True).plan
    steps = reading_steps(plan.files)
    sizes = {path: path.stat().st_size for step in steps for path in step.tensor.paths}
    most = most_bytes_at_once(steps, sizes.__getitem__)
    assert max(sizes.values()) < most <= sum(sizes.values())
