"""From what the user names to the checked pair of files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_gguf

from palo_cpp.errors import ArgumentError, ModelFormatError, ModelNotFoundError
from palo_cpp.models.files import find_model


def write_mmproj(path: Path, pair_id: str | None = "one") -> Path:
    writer = gguf.GGUFWriter(path, "clip")
    if pair_id:
        writer.add_string("palo.pair_id", pair_id)
    writer.add_tensor("v.class_embd", np.zeros(8, np.float32))
    tiny_gguf.finish(writer)
    return path


def write_text(path: Path, pair_id: str | None = "one") -> Path:
    return tiny_gguf.write_text_gguf(path, palo__pair_id=pair_id)


@pytest.fixture
def folder(tmp_path) -> Path:
    write_text(tmp_path / "PALO-F32.gguf")
    write_mmproj(tmp_path / "mmproj-PALO-F16.gguf")
    return tmp_path


def names(model: Path | str) -> tuple[str, str]:
    files = find_model(model)
    return files.text.path.name, files.mmproj.path.name


@pytest.mark.parametrize("name", ["", "PALO-F32.gguf", "mmproj-PALO-F16.gguf"])
def test_folder_and_either_file_find_the_pair(folder, name):
    assert names(folder / name) == ("PALO-F32.gguf", "mmproj-PALO-F16.gguf")
    assert names(str(folder / name)) == ("PALO-F32.gguf", "mmproj-PALO-F16.gguf")


def test_other_files_in_the_folder_do_not_matter(folder):
    (folder / "notes.txt").write_text("x")
    (folder / "download.gguf.part").write_bytes(b"")
    assert names(folder) == ("PALO-F32.gguf", "mmproj-PALO-F16.gguf")


def test_pair_id_chooses_among_several(folder):
    write_mmproj(folder / "mmproj-A-F16.gguf", "other")
    write_text(folder / "Q4.gguf")
    assert names(folder / "PALO-F32.gguf") == ("PALO-F32.gguf", "mmproj-PALO-F16.gguf")
    assert names(folder / "Q4.gguf") == ("Q4.gguf", "mmproj-PALO-F16.gguf")


def test_several_models_in_a_folder_are_listed(folder):
    write_text(folder / "Q4.gguf")
    with pytest.raises(ArgumentError, match=r"got PALO-F32\.gguf, Q4\.gguf; give the path"):
        find_model(folder)
    with pytest.raises(ArgumentError, match=r"got PALO-F32\.gguf, Q4\.gguf; leave only"):
        find_model(folder / "mmproj-PALO-F16.gguf")


def test_several_mmproj_files_are_listed(folder):
    write_mmproj(folder / "mmproj-PALO-F32.gguf")
    with pytest.raises(ArgumentError, match=r"got mmproj-PALO-F16\.gguf, mmproj-PALO-F32\.gguf"):
        find_model(folder)


def test_pair_ids_that_differ_are_one_sentence(folder):
    write_mmproj(folder / "mmproj-PALO-F16.gguf", "two")
    with pytest.raises(ModelFormatError, match=r"expected the mmproj file made together with PALO-F32\.gguf.*; put"):
        find_model(folder)


def test_files_of_others_have_no_pair_id_and_are_trusted(folder):
    write_mmproj(folder / "mmproj-PALO-F16.gguf", None)
    assert names(folder)[1] == "mmproj-PALO-F16.gguf"


def test_a_half_is_missing(folder):
    (folder / "mmproj-PALO-F16.gguf").rename(folder / "moved")
    for model in (folder, folder / "PALO-F32.gguf"):
        with pytest.raises(ModelNotFoundError, match=r"expected mmproj-\*\.gguf beside it, got none"):
            find_model(model)
    (folder / "moved").rename(folder / "mmproj-PALO-F16.gguf")
    (folder / "PALO-F32.gguf").unlink()
    for model in (folder, folder / "mmproj-PALO-F16.gguf"):
        with pytest.raises(ModelNotFoundError, match=r"expected (the|a) text model beside"):
            find_model(model)


def test_a_text_model_named_mmproj_is_found_out(folder):
    shutil.copy(folder / "PALO-F32.gguf", folder / "mmproj-PALO-F16.gguf")
    with pytest.raises(ModelFormatError, match="got architecture 'llama'"):
        find_model(folder)


def test_an_mmproj_under_another_name_is_found_out(folder):
    (folder / "PALO-F32.gguf").unlink()
    write_mmproj(folder / "PALO.gguf")
    with pytest.raises((ModelFormatError, ModelNotFoundError), match=r"text model"):
        find_model(folder)


@pytest.mark.parametrize("file", ["PALO-F32.gguf", "mmproj-PALO-F16.gguf"])
def test_damaged_files(folder, file):
    data = (folder / file).read_bytes()
    for broken, message in ((b"not gguf", "begins with"), (data[: len(data) - 8], "cut short"), (data[:60], "damaged")):
        (folder / file).write_bytes(broken)
        with pytest.raises(ModelFormatError, match=re.escape(file) + ".*" + message):
            find_model(folder)


def test_a_checkpoint_names_the_command(tmp_path):
    checkpoint = tmp_path / "PALO-7B"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    expected = f"palo-cpp convert {checkpoint} -o {checkpoint}-gguf"
    with pytest.raises(ModelNotFoundError, match=re.escape(expected)):
        find_model(checkpoint)


def test_an_empty_folder(tmp_path):
    with pytest.raises(ModelNotFoundError, match="got no GGUF file; make them with `palo-cpp convert CHECKPOINT -o"):
        find_model(tmp_path)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("mobile", "MBZUAI/MobilePALO-1.7B"),
        ("7b", "MBZUAI/PALO-7B"),
        ("13b:q8_0", "MBZUAI/PALO-13B:Q8_0"),
        ("org/repo", "org/repo"),
    ],
)
def test_a_name_that_was_not_pulled_yet(name, source):
    expected = f"model {source}: expected a folder or files in the hub.s cache.*run `palo-cpp pull {source}` first"
    with pytest.raises(ModelNotFoundError, match=expected):
        find_model(name)


def test_nothing_there(tmp_path):
    for model in (tmp_path / "no", tmp_path / "no" / "model.gguf", "./no", "no/model.gguf", "a/b/c"):
        with pytest.raises(ModelNotFoundError, match="got nothing there; check the path"):
            find_model(model)
    for model in ("", "a\0b"):
        with pytest.raises(ArgumentError, match="model: expected a folder or a GGUF file"):
            find_model(model)
