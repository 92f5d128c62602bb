"""A sequence's keys and values, taken out and put back: the same bits, and nothing that llama.cpp stumbles over."""

from __future__ import annotations

import backend_models
import numpy as np
import pytest
import tiny_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palo_cpp.errors import ArgumentError, PaloError
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.llm.language_model import LanguageModel
from palo_cpp.llm.sequence_state import StateLayout, check_state
from palo_cpp.llm.text_sizes import TextSizes

TOKENS = [1, *range(300, 340)]
LAYOUT = StateLayout(n_layer=2, n_key_bytes=64, n_value_bytes=64)


@pytest.fixture(scope="module")
def _folder(tmp_path_factory):
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def state(language_model):
    language_model.decode(TOKENS, position=0)
    return language_model.sequence_state()


def answered(model, *, position):
    """Logits [4, n_vocab] of what follows, decoded one by one."""
    return np.stack([model.decode([350 + i], position=position + i) for i in range(4)])


def test_the_layout_is_what_llama_cpp_writes(language_model, state, text_gguf):
    assert StateLayout.of(TextSizes.of(read_header(text_gguf))) == LAYOUT
    assert check_state(state, LAYOUT) == len(TOKENS)
    assert len(state) == LAYOUT.n_bytes(len(TOKENS))
    language_model.remove(0, 1)
    assert len(language_model.sequence_state()) == len(state) - (len(TOKENS) - 1) * LAYOUT.n_cell_bytes


@pytest.mark.parametrize("backend", ["palo", "cpu"])
def test_another_context_goes_on_with_the_same_bits(backend, monkeypatch, _folder):
    monkeypatch.setenv("PALO_CPP_CACHE", str(_folder))
    path = backend_models.model_file("q4_0")
    embeddings = np.random.default_rng(0).standard_normal((20, 512)).astype(np.float32)
    with LanguageModel(path, n_threads=2, backend=backend) as model:
        assert model.backend.is_active == (backend == "palo")
        model.decode(TOKENS, position=0)
        model.decode(embeddings, position=len(TOKENS))
        state = model.sequence_state()
        expected = answered(model, position=len(TOKENS) + 20)
    with LanguageModel(path, n_threads=1, backend=backend, n_ctx=256) as other:
        assert other.set_sequence_state(state) == other.n_tokens() == len(TOKENS) + 20
        np.testing.assert_array_equal(answered(other, position=len(TOKENS) + 20), expected)


def test_the_state_of_one_backend_serves_the_other(monkeypatch, _folder):
    monkeypatch.setenv("PALO_CPP_CACHE", str(_folder))
    path = backend_models.model_file("q8_0")
    logits = {}
    for backend in ("palo", "cpu"):
        with LanguageModel(path, n_threads=1, backend=backend) as model:
            if backend == "palo":
                model.decode(TOKENS, position=0)
                state = model.sequence_state()
            else:
                model.set_sequence_state(state)
            logits[backend] = answered(model, position=len(TOKENS))
    backend_models.assert_close(logits["palo"], logits["cpu"])


def test_what_stood_there_is_dropped_and_other_sequences_stay(language_model, state):
    expected = answered(language_model, position=len(TOKENS))
    language_model.remove(0)
    language_model.decode([1, 400, 401], position=0)
    language_model.decode([1, 500], position=0, seq_id=3)
    other = language_model.sequence_state(3)
    assert language_model.set_sequence_state(state) == len(TOKENS)
    np.testing.assert_allclose(answered(language_model, position=len(TOKENS)), expected, atol=0.03)
    np.testing.assert_array_equal(language_model.sequence_state(3)[16:], other[16:])
    assert language_model.set_sequence_state(state, seq_id=7) == language_model.n_tokens(7) == len(TOKENS)


def test_a_part_of_a_sequence(language_model, state):
    language_model.copy(0, 15)
    language_model.remove(15, 10)
    part = language_model.sequence_state(15)
    assert check_state(part, LAYOUT) == 10
    language_model.remove(15)
    np.testing.assert_array_equal(language_model.sequence_state()[16:], state[16:])


def test_a_state_longer_than_the_context_changes_nothing(text_gguf, state):
    with LanguageModel(text_gguf, n_threads=1, n_ctx=256) as small:
        small.decode([1, 5], position=0)
        small.decode(list(range(300, 520)), position=0, seq_id=2)
        with pytest.raises(ArgumentError, match="expected at most 36 more tokens, got 41"):
            small.set_sequence_state(state)
        assert small.n_tokens() == 2
        small.remove(2, 215)  # room for exactly what comes, with what stands in the way dropped
        assert small.set_sequence_state(state) == 41


def test_empty_sequences_closed_models_and_wrong_ids(language_model, state):
    with pytest.raises(ArgumentError, match="got an empty one"):
        language_model.sequence_state(1)
    for wrong in (-1, 16):
        with pytest.raises(ArgumentError, match="seq_id"):
            language_model.sequence_state(wrong)
        with pytest.raises(ArgumentError, match="seq_id"):
            language_model.set_sequence_state(state, wrong)
    language_model.close()
    for use in (language_model.sequence_state, lambda: language_model.set_sequence_state(state)):
        with pytest.raises(ArgumentError, match="expected an open model"):
            use()


def test_another_models_state(tmp_path, state):
    tensors = tiny_gguf.weights(len(tiny_gguf.pieces()[0]))
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("blk.1.")}
    path = tiny_gguf.write_text_gguf(tmp_path / "a.gguf", tensors=tensors, llama__block_count=1)
    with LanguageModel(path, n_threads=1) as other, pytest.raises(ArgumentError, match="of this model, got"):
        other.set_sequence_state(state)


# --- hostile states: each is one that llama.cpp's own reader takes, or that it would only notice half way


def changed(state, at, value):
    broken = state.copy()
    broken[at : at + 4] = np.array([value], "<i8").astype("<u4").view(np.uint8)
    return broken


N = len(TOKENS)
META = 16 + 12 * N
WRONG = {
    "magic": (0, 0, "mark"),
    "streams": (8, 2, "one stream"),
    "more cells": (12, N + 1, "bytes for"),
    "fewer cells": (12, N - 1, "bytes for"),
    "no cells": (12, 0, "bytes for"),
    "huge count": (12, -1, "bytes for"),
    "negative position": (16, -1, "positions"),
    "position twice": (16, 1, "positions"),
    "position too far": (16 + 12 * (N - 1), N, "positions"),
    "two sequences": (16 + 4, 2, "positions"),
    "transposed": (META, 1, "layers"),
    "layers": (META + 4, 3, "layers"),
    "type": (META + 8, 0, "f16"),
    "row": (META + 12, 128, "rows of 64"),
    "row's upper half": (META + 16, 1, "rows of 64"),
    "NaN in the keys": (META + 20, 0x7E00, "finite"),
    "infinity in the last value": (-4, 0xFC000000, "finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_hostile_states_change_nothing(language_model, state, name):
    at, value, message = WRONG[name]
    expected = answered(language_model, position=N)
    language_model.remove(0, N)
    with pytest.raises(ArgumentError, match=message):
        language_model.set_sequence_state(changed(state, at % len(state), value))
    np.testing.assert_array_equal(answered(language_model, position=N), expected)


def test_cut_short_or_longer_or_no_bytes_at_all(language_model, state):
    wrong = [state[:n] for n in (0, 1, 15, 16, 40, len(state) - 1)] + [np.append(state, state[-4:])]
    for broken in [*wrong, state.astype(np.int32), state[None], np.zeros(5000, np.uint8)]:
        with pytest.raises(ArgumentError, match="sequence state"):
            language_model.set_sequence_state(broken)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_bytes_are_refused_or_can_be_decoded_on(language_model, data):
    language_model.remove(0)
    language_model.decode(TOKENS, position=0)
    broken = language_model.sequence_state()
    for at, value in data.draw(
        st.lists(
            st.tuples(st.integers(0, META + 40) | st.integers(0, len(broken) - 1), st.integers(0, 255)), max_size=4
        )
    ):
        broken[at] = value
    try:
        n = language_model.set_sequence_state(broken)
    except PaloError:
        n = language_model.n_tokens()
    assert n == N
    assert np.isfinite(language_model.decode([5], position=n)).all()
