"""Our kernels under llama.cpp: the same answers as llama.cpp's own on everything that the pipeline does."""

from __future__ import annotations

import ctypes
import dataclasses
import threading

import backend_models as models
import gguf
import numpy as np
import pytest
from backend_models import assert_close, logits_of, model_file, tokens

from palo_cpp.errors import ArgumentError
from palo_cpp.ggml.backend import BACKEND_MODES, backend_status, read_speed
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.llm.language_model import LanguageModel

TYPES = ("q4_0", "q8_0", "q4_k_m", "q5_k_m", "q6_k", "f16")


@pytest.fixture(scope="module")
def _folder(tmp_path_factory):
    return tmp_path_factory.mktemp("backend")


@pytest.fixture(autouse=True)
def _cache(monkeypatch, _folder):
    monkeypatch.setenv("PALO_CPP_CACHE", str(_folder))


def load(path, backend, *, n_threads=2, n_ctx=1024):
    return LanguageModel(path, n_ctx=n_ctx, n_threads=n_threads, backend=backend)


def both(path, use):
    """What `use` makes of the model with our kernels and with llama.cpp's."""
    with load(path, "palo") as ours, load(path, "cpu") as theirs:
        assert ours.backend.is_active and not theirs.backend.is_active
        return use(ours), use(theirs)


# --- every type


@pytest.mark.parametrize("outtype", TYPES)
def test_logits_agree_with_llama_cpps_kernels(outtype):
    ours, theirs = both(model_file(outtype), logits_of)
    assert not np.array_equal(ours, theirs)  # else it was llama.cpp itself
    assert_close(ours, theirs)


@pytest.mark.parametrize("outtype", TYPES)
def test_all_weights_but_embeddings_and_norms_are_packed_in_as_many_bytes(outtype):
    path = model_file(outtype)
    matrices = {name: t for name, t in read_header(path).tensors.items() if t.shape[1] > 1}
    n_bytes = sum(t.n_bytes for name, t in matrices.items() if name != "token_embd.weight")
    with load(path, "palo") as model:
        assert n_bytes <= model.backend.n_packed_bytes <= 1.01 * n_bytes


@pytest.mark.parametrize("outtype", ["q4_0", "q4_k_m", "f16"])
def test_equal_bits_for_any_number_of_threads(outtype):
    found = []
    for n_threads in (1, 2, 3):
        with load(model_file(outtype), "palo", n_threads=n_threads) as model:
            found.append(logits_of(model))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


@pytest.mark.parametrize("outtype", TYPES)
def test_equal_bits_for_one_row_and_two(outtype):
    """What speculation stands on."""
    drawn = tokens(360)
    with load(model_file(outtype), "palo") as model:
        assert model.has_equal_rows
        model.decode(drawn[:320], position=0)
        singles = [model.decode([token], position=320 + i) for i, token in enumerate(drawn[320:])]
        model.remove(0, 320)
        pairs = [model.decode(drawn[i : i + 2], position=i, all_logits=True) for i in range(320, 360, 2)]
    assert np.array_equal(np.concatenate(pairs), singles)


def test_rows_need_not_be_equal_where_the_embeddings_are_the_output_too(monkeypatch):
    with load(model_file("q8_0"), "palo") as model:  # llama.cpp computes with these, for it gathers rows of them
        tensors = {name: t for name, t in model._header.tensors.items() if name != "output.weight"}
        monkeypatch.setattr(model, "_header", dataclasses.replace(model._header, tensors=tensors))
        assert not model.has_equal_rows


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 33, 64, 128, 129, 511, 512, 513, 600])
def test_prompts_of_any_length(n):
    ours, theirs = both(model_file("q4_0"), lambda model: model.decode(tokens(n), position=0))
    assert_close(ours, theirs)


# --- what the pipeline does


def test_embeddings_as_input():
    embeddings = np.random.default_rng(3).standard_normal((40, 512)).astype(np.float32)

    def use(model):
        model.decode(tokens(9), position=0)
        return model.decode(embeddings, position=9, all_logits=True)

    assert_close(*both(model_file("q4_k_m"), use))


def test_sequences_share_a_prefix_and_stay_apart():
    def use(model):
        model.decode(tokens(30), position=0)
        model.copy(0, 3)
        return np.stack(
            [
                model.decode(tokens(7, seed=1), position=30, seq_id=0),
                model.decode(tokens(7, seed=2), position=30, seq_id=3),
                model.decode(tokens(1, seed=3), position=37, seq_id=0),
            ]
        )

    assert_close(*both(model_file("q4_0"), use))


def test_a_reused_prefix_says_what_a_fresh_one_says():
    with load(model_file("q4_0"), "palo") as model:
        logits_of(model)  # the first graph of a context computes the steps between products on llama.cpp's kernels
        model.remove(0)
        model.decode(tokens(50), position=0)
        model.decode(tokens(20, seed=1), position=50)
        model.remove(0, 50)
        reused = model.decode(tokens(5, seed=2), position=50)
        model.remove(0)
        model.decode(tokens(50), position=0)
        assert np.array_equal(reused, model.decode(tokens(5, seed=2), position=50))


def test_a_state_saved_from_one_context_goes_on_in_another():
    path = model_file("q4_k_m")
    with load(path, "palo") as first, load(path, "palo") as second:
        first.decode(tokens(40), position=0)
        state = first.sequence_state()
        expected = first.decode([300], position=40)
        second.set_sequence_state(state)
        # The second stream computes its first graph, which the first has behind it: the steps between the products may
        # then be llama.cpp's.
        assert_close(second.decode([300], position=40), expected)


def test_models_on_either_kernels_live_side_by_side():
    path = model_file("q4_0")
    with load(path, "cpu") as cpu:
        before = logits_of(cpu)
        with load(path, "palo") as palo:
            found = {}
            threads = [
                threading.Thread(target=lambda m=m, name=name: found.__setitem__(name, logits_of(m)))
                for name, m in (("cpu", cpu), ("palo", palo))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert np.array_equal(found["cpu"], before)
        assert_close(found["palo"], before)
        assert np.array_equal(logits_of(cpu), before)


def write_lora(path, n_embd=512, rank=4):
    """An adapter of two matrices, one half of it of a type that our buffers pack and one of a type that they do not."""
    draw = np.random.default_rng(8)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for name, dtype in (("blk.0.attn_q.weight", np.float16), ("blk.1.ffn_gate.weight", np.float32)):
        n_out = n_embd if "attn" in name else 768
        writer.add_tensor(f"{name}.lora_a", (0.05 * draw.standard_normal((rank, n_embd))).astype(dtype))
        writer.add_tensor(f"{name}.lora_b", (0.05 * draw.standard_normal((n_out, rank))).astype(dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_lora_adapters(tmp_path):
    write_lora(tmp_path / "lora.gguf")

    def use(model):
        llama = model._llama
        plain = logits_of(model)
        adapter = llama.llama_adapter_lora_init(model._model, str(tmp_path / "lora.gguf").encode())
        assert adapter
        adapters, scales = (llama.llama_adapter_lora_p_ctypes * 1)(adapter), (ctypes.c_float * 1)(1.0)
        assert llama.llama_set_adapters_lora(model._context, adapters, 1, scales) == 0
        adapted = logits_of(model)
        assert np.abs(adapted - plain).max() > 0.1
        return adapted

    assert_close(*both(model_file("q4_0"), use))


# --- models that fit in part or not at all


def test_shapes_that_do_not_fill_panels():
    changes = {"n_embd": 96, "n_ff": 160, "n_head": 6, "n_head_kv": 3, "head_dim": 16, "n_vocab": 515}
    for outtype in ("q8_0", "f16"):
        ours, theirs = both(model_file(outtype, "odd", **changes), logits_of)
        assert_close(ours, theirs)


def test_types_without_kernels_fall_back_one_by_one():
    path = model_file("q5_0")  # its output matrix is Q6_K
    with load(path, "palo") as ours, load(path, "cpu") as theirs:
        output = read_header(path).tensors["output.weight"]
        assert output.n_bytes <= ours.backend.n_packed_bytes <= 1.01 * output.n_bytes
        assert not ours.has_equal_rows and not theirs.has_equal_rows
        assert_close(logits_of(ours), logits_of(theirs))


def test_a_model_without_any_fitting_weight_is_llama_cpps_alone():
    path = model_file("f32")
    with load(path, "palo") as ours, load(path, "cpu") as theirs:
        assert not ours.backend.is_active
        assert "no weight" in ours.backend.reason
        assert np.array_equal(logits_of(ours), logits_of(theirs))


# --- modes


def test_the_mode_is_checked():
    assert BACKEND_MODES == ("auto", "palo", "cpu")
    with pytest.raises(ArgumentError, match="backend: expected 'auto', 'palo', 'cpu', got 'gpu'"):
        load(model_file("q4_0"), "gpu")


def test_auto_takes_the_types_that_win():
    status = backend_status("auto")
    assert status.is_registered and status.mode == "auto" and status.path.is_file()
    assert list(status.types) == ["q4_0", "q8_0", "q4_K", "q5_K", "q6_K", "f16"]
    assert all(use.reason.endswith("on 32 rows") for use in status.types.values())
    with load(model_file("q4_0"), "auto") as model:
        expected = status.types["q4_0"].is_active or status.types["q6_K"].is_active
        assert model.backend.is_active == expected
        assert model.backend.mode == "auto"


def test_the_status_of_a_mode_times_nothing():
    assert all(use.is_active and use.reason == "asked for" for use in backend_status("palo").types.values())
    assert not any(use.is_active for use in backend_status("cpu").types.values())


def test_freed_models_give_their_memory_back():
    with load(model_file("q8_0"), "palo") as first:
        n_bytes = first.backend.n_packed_bytes
    with load(model_file("q8_0"), "palo") as second:
        assert second.backend.n_packed_bytes == n_bytes


def test_a_plain_read_has_a_speed():
    speed = read_speed(8 << 20, 2)
    assert speed is not None and speed > 1e8


def test_near_ties_are_near():
    reference = np.array([[1.0, 0.0, -1.0]], np.float32)
    assert_close(reference, reference)
    with pytest.raises(AssertionError):
        assert_close(reference[:, ::-1].copy(), reference)
    assert models.KL_MAX == 1e-3  # the bar
