"""SHA256SUMS: written as coreutils reads it, read with care."""

from __future__ import annotations

import hashlib
import shutil
import subprocess

import pytest

from palo_cpp.errors import ModelFormatError, PaloError
from palo_cpp.models.checksums import SUMS, copy_hashed, forget_sums, read_sums, sha256_of, write_sums


def test_coreutils_reads_what_is_written(tmp_path):
    files = [tmp_path / name for name in ("PALO-7B-Q4_0.gguf", "मॉडल नमूना.gguf")]
    for n, path in enumerate(files):
        path.write_bytes(bytes([n]) * 3_000_000)
        write_sums(tmp_path, [path])
    assert read_sums(tmp_path) == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert not list(tmp_path.glob(".*"))
    if tool := shutil.which("sha256sum"):
        subprocess.run([tool, "--check", "--strict", SUMS], cwd=tmp_path, check=True, capture_output=True)
    forget_sums(tmp_path, [files[0].name, "never there"])
    assert list(read_sums(tmp_path)) == [files[1].name]
    forget_sums(tmp_path, [files[1].name])
    assert not (tmp_path / SUMS).exists()


def test_every_form_that_tools_write_is_read(tmp_path):
    digest = "0a" * 32
    (tmp_path / SUMS).write_text(f"{digest}  a.gguf\r\n{digest.upper()} *b b.gguf\n\n{digest}  ./c.gguf")
    assert read_sums(tmp_path) == dict.fromkeys(["a.gguf", "b b.gguf", "c.gguf"], digest)
    assert read_sums(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("name", ["../x.gguf", "/etc/x.gguf", "a/b.gguf", "a\\b.gguf", "C:x.gguf", ".."])
def test_names_cannot_leave_the_folder(tmp_path, name):
    (tmp_path / SUMS).write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(ModelFormatError, match=r"expected names of files in the folder, got .*, which leads out of it"):
        read_sums(tmp_path)


@pytest.mark.parametrize("text", ["<html>", "abc  x.gguf", f"{'0' * 64}", f"\\{'0' * 64}  a\\nb"])
def test_other_forms_are_refused(tmp_path, text):
    (tmp_path / SUMS).write_text(text)
    with pytest.raises(ModelFormatError, match="expected lines of a SHA-256 and a name"):
        read_sums(tmp_path)


def test_no_text_at_all(tmp_path):
    (tmp_path / SUMS).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelFormatError, match="could not be read"):
        read_sums(tmp_path)


def test_a_copy_is_hashed_and_reported(tmp_path):
    (tmp_path / "a").write_bytes(b"palo" * 1_000_000)
    reports = []
    assert copy_hashed(tmp_path / "a", tmp_path / "b", reports.append) == sha256_of(tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert reports and reports == sorted(reports) and reports[-1] <= 4_000_000
    with pytest.raises(PaloError, match="gone: could not be read"):
        copy_hashed(tmp_path / "gone", tmp_path / "c")
