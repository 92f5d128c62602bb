"""Embeddings kept in memory, what distinguishes encoders, the cache in `Palo`; not its folder."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from cached_embeddings import PALO_7B, SHAPE, Images, entries, key_of, mib, rows_of
from mmproj_files import Mmproj, write_mmproj

from palo_cpp import ArgumentError, Palo
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.vision.embedding_cache import EmbeddingCache, embedding_key, encoder_id


@pytest.fixture
def images() -> Images:
    return Images()


# ---- in memory


def test_an_image_is_encoded_once(images):
    cache = EmbeddingCache()
    assert [images.see(cache, name) for name in "abaab"] == [False, False, True, True, True]
    assert images.encoded == ["a", "b"]
    cache.clear_memory()
    assert not images.see(cache, "a")


def test_memory_is_bounded_and_the_least_recently_used_go_first(images):
    cache = EmbeddingCache(memory_mib=mib(3))
    for name in "abca":
        images.see(cache, name)
    images.see(cache, "d")  # b goes, for a was used since
    assert [images.see(cache, name) for name in "acd"] == [True, True, True]
    assert not images.see(cache, "b")


def test_no_memory_and_entries_larger_than_it(images):
    for size in (0, mib(0.5)):
        cache = EmbeddingCache(memory_mib=size)
        assert not images.see(cache, "a") and not images.see(cache, "a")


def test_an_entry_larger_than_the_memory_displaces_nothing(images):
    cache = EmbeddingCache(memory_mib=mib(2))
    images.see(cache, "a")
    cache.put(key_of("large"), rows_of("large", (30, 300)))
    assert images.see(cache, "a") and cache.get(key_of("large"), (30, 300)) is None


def test_images_of_one_batch(images):
    cache, batches = EmbeddingCache(), []

    def encode(indices: list[int]) -> np.ndarray:
        batches.append(indices)
        return np.stack([rows_of(names[i]) for i in indices])

    images.see(cache, "b")
    names = "abcac"
    batch = cache.get_or_encode_all([key_of(name) for name in names], SHAPE, encode)
    assert batches == [[0, 2]]  # what is known, and what comes twice, is not encoded
    for name, found in zip(names, batch, strict=True):
        assert np.array_equal(found.rows, rows_of(name)) and found.is_cached == (name == "b")
        assert found.rows.base is None  # not a piece of the batch
    cache.get_or_encode_all([key_of("a"), key_of("c")], SHAPE, encode)
    assert cache.get_or_encode_all([], SHAPE, encode) == [] and len(batches) == 1


def test_putting_an_image_again_does_not_count_twice(images):
    cache = EmbeddingCache(memory_mib=mib(2))
    for _ in range(5):
        cache.put(key_of("a"), rows_of("a"))
    images.see(cache, "b")
    assert images.see(cache, "a") and images.see(cache, "b")


def test_what_the_encoder_gives_is_copied(images):
    cache, buffer = EmbeddingCache(), rows_of("a")
    cache.get_or_encode(key_of("a"), SHAPE, lambda: buffer)
    buffer[:] = 0
    assert images.see(cache, "a")


def test_a_failing_encoder_leaves_nothing(images, tmp_path):
    cache = EmbeddingCache(tmp_path / "cache")
    with pytest.raises(ZeroDivisionError):
        cache.get_or_encode(key_of("a"), SHAPE, lambda: 1 // 0)
    assert not images.see(cache, "a") and images.see(cache, "a")


def test_threads_that_want_one_image_encode_it_once():
    cache, results, n_encoded = EmbeddingCache(), [], []

    def encode() -> np.ndarray:
        n_encoded.append(1)
        time.sleep(0.05)
        return rows_of("a")

    def work() -> None:
        results.append(cache.get_or_encode(key_of("a"), SHAPE, encode).rows)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(n_encoded) == 1 and all(np.array_equal(result, rows_of("a")) for result in results)


@pytest.mark.parametrize("wrong", [{"memory_mib": -1}, {"disk_mib": float("nan")}, {"folder": ""}, {"folder": "a\0b"}])
def test_impossible_settings_are_errors(wrong):
    with pytest.raises(ArgumentError, match=r"embedding_cache_\w+: expected"):
        EmbeddingCache(**wrong)


# ---- encoders and preprocessing never mix

SMALL = Mmproj(grid=2, patch_size=2, n_embd=8, n_head=2, n_ff=12, n_layer=1, n_out=8, n_squeezed=8)


class Encoder(NamedTuple):
    """As much of an encoder as its id needs."""

    precision: str
    isa: str
    version: str = "1"


def test_every_part_of_an_encoder_is_in_its_id(tmp_path):
    header = read_header(write_mmproj(tmp_path / "mmproj.gguf", SMALL))
    known = {encoder_id(header, Encoder("float", "ref"))}
    assert encoder_id(header, Encoder("float", "ref")) in known
    known |= {encoder_id(header, Encoder("int8", "ref")), encoder_id(header, Encoder("float", "avx2"))}
    known.add(encoder_id(header, Encoder("float", "ref", version="1000000")))
    assert len(known) == 4


def test_other_weights_are_another_encoder(tmp_path):
    path = write_mmproj(tmp_path / "mmproj.gguf", SMALL)
    whole, header = path.read_bytes(), read_header(path)
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    known = {encoder_id(header, Encoder("float", "ref"))}
    for tensor in header.tensors.values():  # each of them trained further, size and time of the file the same
        data = bytearray(whole)
        data[tensor.offset + tensor.n_bytes // 2] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=times)
        known.add(encoder_id(header, Encoder("float", "ref")))
    path.write_bytes(whole)
    os.utime(path, ns=(times[0], times[1] + 1000))
    known.add(encoder_id(header, Encoder("float", "ref")))
    assert len(known) == 2 + len(header.tensors)


def test_the_metadata_are_part_of_an_encoder(tmp_path):
    """The pixels' mean and the pair id stand there, and nowhere else."""
    path = write_mmproj(tmp_path / "mmproj.gguf", SMALL)
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    header = read_header(path)
    before = encoder_id(header, Encoder("float", "ref"))
    path.write_bytes(path.read_bytes().replace(np.float32(0.48).tobytes(), np.float32(0.5).tobytes(), 1))
    os.utime(path, ns=times)
    assert encoder_id(header, Encoder("float", "ref")) != before


def test_encoders_and_images_make_different_keys():
    keys = {embedding_key(encoder, image) for encoder in (b"a", b"b") for image in ("1", "2")}
    assert len(keys) == 4 and all(len(key) == 64 for key in keys)


# ---- in `Palo`


def counted(palo: Palo, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One element for each image that the encoder is given from now on."""
    calls: list[int] = []
    encode = palo.vision.encode

    def count(pixels: np.ndarray) -> np.ndarray:
        calls.append(1)
        return encode(pixels)

    monkeypatch.setattr(palo.vision, "encode", count)
    return calls


def test_ask_chat_describe_and_embed_share_the_cache(palo, picture, other_picture, monkeypatch):
    calls = counted(palo, monkeypatch)
    first = palo.ask(picture, "What is this?", max_tokens=1).timings
    assert first.n_images_encoded == 1 and first.encode_s > 0
    palo.ask(other_picture, "What is this?", max_tokens=1)
    with palo.chat(picture) as chat:
        timings = chat.ask("And this?", max_tokens=1).timings
    assert timings.n_images_encoded == 0 and 0 < timings.encode_s < 0.005
    palo.embed_image(other_picture)
    palo.describe(other_picture, lang=["en", "ur"], max_tokens=1)
    assert len(calls) == 2
    palo.clear_cache()
    palo.embed_image(picture)
    assert len(calls) == 3


def test_several_images_are_encoded_in_batches(palo, picture, monkeypatch):
    pictures = [np.roll(picture, i, axis=1) for i in range(11)]
    one_by_one = [palo.embed_image(each) for each in pictures]
    palo.clear_cache()
    calls = counted(palo, monkeypatch)
    palo.embed_image(pictures[3])
    together = palo.embed_images(pictures)
    assert len(calls) == 7  # the fourth alone, then pair by pair: 2, 1 (without the fourth), 2, 2, 2, 1
    assert together.shape == (11, palo.vision.info.n_image_tokens, palo.vision.info.n_embd)
    assert np.array_equal(together, one_by_one)
    assert np.array_equal(palo.embed_images(iter(pictures[:2])), one_by_one[:2]) and len(calls) == 7
    assert palo.embed_images([]).shape == (0, *together.shape[1:])


def test_a_palo_finds_on_disk_what_another_encoded(model_dir, picture, tmp_path, monkeypatch):
    options = {"embedding_cache_dir": tmp_path / "cache", "n_threads": 1}
    with Palo(model_dir, **options) as palo:
        first = palo.ask(picture, "What is this?", max_tokens=8)
        embeddings = palo.embed_image(picture)
    with Palo(model_dir, **options) as palo:
        calls = counted(palo, monkeypatch)
        later = palo.ask(picture, "What is this?", max_tokens=8)
        assert (later.token_ids, later.timings.n_images_encoded, len(calls)) == (first.token_ids, 0, 0)
        assert np.array_equal(palo.embed_image(picture), embeddings)
    for other in ({"preprocess": "crop"}, {"vision_precision": "float"}):
        with Palo(model_dir, **other, **options) as palo:
            assert palo.ask(picture, "What is this?", max_tokens=1).timings.n_images_encoded == 1
    assert len(entries(tmp_path / "cache")) == 3


def test_a_copy_of_a_model_is_the_same_encoder_and_a_changed_one_is_not(model_dir, picture, tmp_path):
    def n_encoded(folder: Path) -> int:
        with Palo(folder, embedding_cache_dir=tmp_path / "cache", n_threads=1) as palo:
            return palo.ask(picture, max_tokens=1).timings.n_images_encoded

    copy = Path(shutil.copytree(model_dir, tmp_path / "copy"))  # times are copied too
    assert [n_encoded(model_dir), n_encoded(copy)] == [1, 0]
    mmproj = read_header(next(copy.glob("mmproj-*.gguf")))
    data = bytearray(mmproj.path.read_bytes())
    data[mmproj.tensors["v.class_embd"].offset] ^= 1
    mmproj.path.write_bytes(data)
    assert [n_encoded(copy), n_encoded(copy), n_encoded(model_dir)] == [1, 0, 0]


def test_a_palo_without_memory_for_embeddings(model_dir, picture, monkeypatch):
    with Palo(model_dir, embedding_cache_mib=0, n_threads=1) as palo:
        calls = counted(palo, monkeypatch)
        assert np.array_equal(palo.embed_image(picture), palo.embed_image(picture))
        assert len(calls) == 2
    with pytest.raises(ArgumentError, match="embedding_cache_mib: expected 0 or more, got -1"):
        Palo(model_dir, embedding_cache_mib=-1)


# ---- speed and memory


def test_a_hit_on_an_image_of_palo_7b_takes_milliseconds(tmp_path):
    EmbeddingCache(tmp_path).put(key_of("a"), rows_of("a", PALO_7B))
    on_disk, in_memory = EmbeddingCache(tmp_path, memory_mib=0), EmbeddingCache(tmp_path)
    assert in_memory.get(key_of("a"), PALO_7B) is not None
    for cache, limit_s in ((on_disk, 0.005), (in_memory, 0.0005)):  # observed 0.0017 and 0.0000007
        elapsed = []
        for _ in range(20):
            begun_at = time.perf_counter()
            assert cache.get(key_of("a"), PALO_7B) is not None
            elapsed.append(time.perf_counter() - begun_at)
        assert min(elapsed) < limit_s  # the least: other programs may run beside the tests


def test_memory_stays_flat(tmp_path):
    def resident_mib() -> float:
        statm = Path("/proc/self/statm")
        return int(statm.read_text().split()[1]) / 256 if statm.exists() else 0.0

    images = Images((144, 2048))  # MobilePALO: 1.1 MiB each
    cache = EmbeddingCache(tmp_path, memory_mib=8, disk_mib=12)

    def see(names: range) -> None:
        for name in names:
            images.see(cache, f"image {name % 30}")

    see(range(40))
    before = resident_mib()
    see(range(40, 140))
    assert resident_mib() - before < 4
