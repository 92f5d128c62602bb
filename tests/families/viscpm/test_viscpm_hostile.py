"""Files of VisCPM that are cut off, mixed up or lie: each is refused in one sentence, and nothing is loaded."""

from __future__ import annotations

import random
import shutil

import gguf
import numpy as np
import pytest
from click.testing import CliRunner
from palo_cpp.convert import convert
from viscpm_checkpoint import TINY, VisCpmSize, viscpm_tensors, vocabulary, write_viscpm_checkpoint, write_vocabulary

from palo_cpp import Palo, PaloError
from palo_cpp.cli import palo_cpp as command


@pytest.fixture
def folder(viscpm_folder, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(viscpm_folder, tmp_path / "model")


def refusal(folder) -> str:
    with pytest.raises(PaloError) as error:
        Palo(folder, n_ctx=160, n_threads=1).close()
    said = str(error.value)
    assert "\n" not in said and len(said) < 800
    return said


def text_of(folder):
    return next(folder.glob("VisCPM*.gguf"))


def eye_of(folder):
    return next(folder.glob("mmproj*.gguf"))


@pytest.mark.parametrize("part", [text_of, eye_of])
def test_files_that_are_cut_off(folder, part):
    path, chance = part(folder), random.Random(3)
    whole = path.read_bytes()
    for n in (0, 3, 24, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(12))):
        path.write_bytes(whole[:n])
        assert path.name in refusal(folder)


@pytest.mark.parametrize("part", [text_of, eye_of])
def test_headers_that_are_damaged_do_no_harm(folder, part, picture):
    """Bytes of the header that say something else: a sentence, or a model that still answers."""
    path, chance = part(folder), random.Random(4)
    whole = path.read_bytes()
    n_header = min(tensor.data_offset for tensor in gguf.GGUFReader(path).tensors)
    n_refused = 0
    for _ in range(40):
        data = bytearray(whole)
        data[chance.randrange(n_header)] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            with Palo(folder, n_ctx=160, n_threads=1) as palo:
                palo.ask(picture, "?", max_tokens=2, lang_mode="off")
        except PaloError as error:
            n_refused += 1
            assert "\n" not in str(error)
    assert n_refused > 5


CHANGES = {
    "cpmbee.block_count": (4, "blk.3"),
    "cpmbee.embedding_length": (96, "key_length"),
    "cpmbee.feed_forward_length": (128, "ffn"),
    "cpmbee.attention.head_count": (5, "head"),
    "cpmbee.vocab_size": (200, "200 tokens"),
    "cpmbee.position_bias.position_buckets": (0, "position_buckets"),
    "cpmbee.context_length": (0, "context_length"),
}


@pytest.mark.parametrize("key", CHANGES)
def test_sizes_that_are_not_the_tensors(folder, key):
    path = text_of(folder)
    value, says = CHANGES[key]
    reader = gguf.GGUFReader(path, "r+")
    reader.fields[key].parts[reader.fields[key].data[0]][0] = value
    reader.data.flush()
    del reader
    assert says in refusal(folder)


@pytest.mark.parametrize("key", ["beit3.image_size", "beit3.block_count", "beit3.query_count"])
def test_sizes_of_the_eye_that_are_not_its_tensors(folder, key):
    path = eye_of(folder)
    reader = gguf.GGUFReader(path, "r+")
    reader.fields[key].parts[reader.fields[key].data[0]][0] += 16
    reader.data.flush()
    del reader
    assert path.name in refusal(folder)


def test_an_eye_of_another_width(tmp_path, viscpm_folder):
    wide = write_viscpm_checkpoint(tmp_path / "wide" / "VisCPM-Chat", VisCpmSize(n_embd=128, n_ff=192))
    convert(wide, tmp_path / "model")
    eye_of(tmp_path / "model").unlink()
    shutil.copy(eye_of(viscpm_folder), tmp_path / "model")
    assert "expected the mmproj file made together with" in refusal(tmp_path / "model")


def test_weights_that_are_no_numbers_are_found_out(folder, picture):
    path = text_of(folder)
    (norm,) = (tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == "output_norm.weight")
    with path.open("r+b") as file:
        file.seek(norm.data_offset)
        file.write(np.full(norm.n_bytes // 4, np.nan, np.float32).tobytes())
    with Palo(folder, n_ctx=160, n_threads=1) as palo, pytest.raises(PaloError, match="the weights are damaged"):
        palo.ask(picture, "?", max_tokens=2)


def without_vocabulary(folder):
    (folder / "vocab.txt").unlink()


def of_too_few_lines(folder):
    write_vocabulary(folder, vocabulary()[:-3])


def cut_off(folder):
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-5000])


def of_another_shape(folder):
    tensors = viscpm_tensors(TINY)
    tensors["llm.input_embedding.weight"] = tensors["llm.input_embedding.weight"][:, :32]
    write_viscpm_checkpoint(folder, tensors=tensors)


@pytest.mark.parametrize("damage", [without_vocabulary, of_too_few_lines, cut_off, of_another_shape])
def test_checkpoints_on_the_command_line(tmp_path, damage):
    folder = write_viscpm_checkpoint(tmp_path / "VisCPM-Chat")
    damage(folder)
    done = CliRunner().invoke(command, ["convert", str(folder), "-o", str(tmp_path / "out")])
    assert done.exit_code == 1 and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
