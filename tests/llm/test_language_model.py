"""The language model on its own: tokens and embeddings in, logits out, sequences, and nothing that ends the process."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tiny_gguf

from palo_cpp.errors import ArgumentError
from palo_cpp.llm.language_model import LanguageModel

# Keys and values are kept in f16, so logits (standard deviation 4) depend a little on how a prompt was cut into pieces:
# observed 0.010 at most. A position or mask that is off by one changes them by 1 and more.
ATOL = 0.03


def embedding_rows(tokens: list[int]) -> np.ndarray:
    """What the model itself looks up for tokens: [n, n_embd]."""
    n_vocab = len(tiny_gguf.pieces()[0])
    return tiny_gguf.weights(n_vocab)["token_embd.weight"][tokens]


def test_sizes(language_model):
    assert (language_model.n_ctx, language_model.n_embd, language_model.n_layer) == (512, 64, 2)
    assert (language_model.bos_id, language_model.eos_id) == (1, 2)
    assert language_model.n_vocab == len(tiny_gguf.pieces()[0])
    assert language_model.metadata["general.architecture"] == "llama"
    assert language_model.chat_template is None


def test_tokens_equal_sentencepiece_in_ten_languages(language_model, sentences):
    reference = sentencepiece.SentencePieceProcessor(model_file=str(tiny_gguf.DATA / "tokenizer.model"))
    for text in [*sentences.values(), "", " ", "  two  spaces ", "\n\n", "a\tb", "🇮🇳👨‍👩‍👧", "\u200d", "x" * 3000]:
        assert language_model.tokenize(text) == reference.encode(text), text
        assert language_model.tokenize(text, add_bos=True) == [1, *reference.encode(text)], text


def test_continued_tokens_have_no_dummy_prefix(language_model, sentences):
    for text in sentences.values():
        tokens = language_model.tokenize_continued(text)
        assert b"".join(map(language_model.token_bytes, tokens)).decode() == text
    reference = sentencepiece.SentencePieceProcessor(model_file=str(tiny_gguf.DATA / "tokenizer.model"), add_bos=False)
    # SentencePiece joins the dummy prefix to the first word, and with a symbol before it there is none.
    assert language_model.tokenize_continued("USER: what") == reference.encode("\nUSER: what")[2:]


def test_what_a_user_types_is_never_a_control_token(language_model):
    for text in ("</s>", "a</s>b", "<s>", "<unk>", "x <unk></s> y"):
        tokens = language_model.tokenize(text)
        assert not {0, 1, 2} & set(tokens), text
        assert b"".join(map(language_model.token_bytes, tokens)).decode() == " " + text
    assert language_model.tokenize("</s>", parse_special=True) == [2]


def test_control_token_that_merges_would_build_stays_text(tmp_path):
    """llama.cpp merges "</" and "s>" into the control token "</s>" where both are pieces."""
    tokens, scores, _ = tiny_gguf.pieces()
    tokens[-2:], scores[-2:] = [b"</", b"s>"], [-1.0, -2.0]
    path = tiny_gguf.write_text_gguf(
        tmp_path / "a.gguf", tokenizer__ggml__tokens=tokens, tokenizer__ggml__scores=scores
    )
    with LanguageModel(path) as model:
        assert 2 in model._vocabulary._tokenize("a</s>b", False)  # the trap is there
        ids = model.tokenize("a</s>b")
        assert 2 not in ids
        assert b"".join(map(model.token_bytes, ids)) == b" a</s>b"


def test_token_bytes_are_pieces_bytes_or_nothing(language_model):
    byte = language_model.tokenize("\n")[-1]
    assert language_model.token_bytes(byte) == b"\n"
    assert [language_model.token_bytes(i) for i in range(3)] == [b"", b"", b""]
    for wrong in (-1, language_model.n_vocab):
        with pytest.raises(ArgumentError, match="expected ids from 0 to"):
            language_model.token_bytes(wrong)


def test_logits_do_not_depend_on_how_the_prompt_was_cut(language_model):
    tokens = language_model.tokenize("What is in this picture? A dog runs.", add_bos=True)
    whole = language_model.decode(tokens, position=0)
    language_model.remove(0)
    for i, token in enumerate(tokens):
        last = language_model.decode([token], position=i)
    language_model.remove(0)
    every = language_model.decode(tokens, position=0, all_logits=True)
    assert whole.shape == (language_model.n_vocab,) and whole.dtype == np.float32
    assert every.shape == (len(tokens), language_model.n_vocab)
    np.testing.assert_allclose(last, whole, atol=ATOL)
    np.testing.assert_allclose(every[-1], whole, atol=ATOL)


def test_all_logits_are_right_at_every_position(language_model):
    """More positions than one piece holds: each row equals the logits of a prompt that ends there."""
    tokens = np.random.default_rng(0).integers(3, language_model.n_vocab, 150)
    every = language_model.decode(tokens, position=0, all_logits=True)
    for n in (1, 63, 64, 65, 128, 150):
        language_model.remove(0)
        np.testing.assert_allclose(every[n - 1], language_model.decode(tokens[:n], position=0), atol=ATOL)


def test_embeddings_equal_the_tokens_they_stand_for(language_model):
    tokens = language_model.tokenize("a dog and a picture", add_bos=True)
    expected = language_model.decode(tokens, position=0)
    language_model.remove(0)
    logits = language_model.decode(embedding_rows(tokens), position=0)
    np.testing.assert_allclose(logits, expected, atol=ATOL)


def test_embeddings_longer_than_a_piece(tmp_path):
    path = tiny_gguf.write_text_gguf(tmp_path / "long.gguf", llama__context_length=2048)
    tokens = np.random.default_rng(0).integers(3, 900, 700).tolist()
    with LanguageModel(path) as model:
        expected = model.decode(tokens, position=0)
        model.remove(0)
        np.testing.assert_allclose(model.decode(embedding_rows(tokens), position=0), expected, atol=ATOL)


def test_logits_are_a_copy(language_model):
    first = language_model.decode([5], position=0)
    kept = first.copy()
    language_model.decode([6], position=1)
    np.testing.assert_array_equal(first, kept)


def test_same_input_same_logits_bit_for_bit(text_gguf):
    results = []
    for _ in range(2):
        with LanguageModel(text_gguf, n_threads=2) as model:
            logits = model.decode(model.tokenize("What is this?", add_bos=True), position=0)
            tokens = []
            for _ in range(40):
                tokens.append(int(logits.argmax()))
                logits = model.decode(tokens[-1:], position=model.n_tokens())
            results.append((tokens, logits.tobytes()))
    assert results[0] == results[1]
    assert len(set(results[0][0])) > 5  # the text varies, so that equality says something


def test_sequences_are_apart_and_copies_share(language_model):
    prompt = language_model.tokenize("What is this?", add_bos=True)
    language_model.decode(prompt, position=0)
    language_model.copy(0, 3)
    assert language_model.n_tokens(3) == len(prompt)
    ours = language_model.decode([10], position=len(prompt), seq_id=3)
    language_model.decode([20, 21], position=len(prompt), seq_id=0)
    language_model.remove(0, len(prompt))
    np.testing.assert_allclose(language_model.decode([10], position=len(prompt)), ours, atol=ATOL)
    language_model.remove(3)
    assert (language_model.n_tokens(0), language_model.n_tokens(3)) == (len(prompt) + 1, 0)


def test_copies_of_a_long_prefix_fit(language_model):
    """Ten languages over one image: shared cells count once."""
    language_model.decode(list(range(3, 403)), position=0)
    for seq_id in range(1, 11):
        language_model.copy(0, seq_id)
        language_model.decode([7] * 10, position=400, seq_id=seq_id)
    with pytest.raises(ArgumentError, match="expected at most 12 more tokens, got 13"):
        language_model.decode([7] * 13, position=400)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "at least one id"),
        ([-1], "expected ids from 0"),
        ([10**6], "expected ids from 0"),
        ([1.5], "at least one id"),
        (["a"], "at least one id"),
        (np.zeros((2, 63), np.float32), r"expected shape \[n, 64\], got \[2, 63\]"),
        (np.zeros((0, 64), np.float32), r"expected shape"),
        (np.zeros((1, 2, 64), np.float32), r"expected shape"),
        (np.full((2, 64), np.nan, np.float32), "NaN"),
        (np.full((2, 64), np.inf, np.float32), "NaN or infinity"),
        (np.zeros((2, 64), np.int64), "expected float32"),
        ([5] * 513, "expected at most 512 more tokens, got 513: 1 too many"),
    ],
)
def test_wrong_inputs_are_refused_and_change_nothing(language_model, inputs, message):
    with pytest.raises(ArgumentError, match=message):
        language_model.decode(inputs, position=0)
    assert language_model.n_tokens() == 0


def test_wrong_positions_sequences_and_ranges_are_refused(language_model):
    language_model.decode([5, 6], position=0)
    for position in (0, 1, 3, -1):
        with pytest.raises(ArgumentError, match=r"position: expected 2"):
            language_model.decode([5], position=position)
    for seq_id in (-1, 16):
        with pytest.raises(ArgumentError, match=r"seq_id: expected 0 to 15"):
            language_model.decode([5], position=0, seq_id=seq_id)
    with pytest.raises(ArgumentError, match="range"):
        language_model.remove(0, 0, 1)
    with pytest.raises(ArgumentError, match="surrogate"):
        language_model.tokenize("\ud800")


def test_an_interrupted_decode_leaves_nothing_behind(text_gguf, monkeypatch):
    with LanguageModel(text_gguf, n_threads=1, n_ctx=600) as model:
        before = model.decode([7, 8], position=0)
        model.remove(0)
        model.decode([5], position=0)
        decode_batch, n_calls = model._decode_batch, 0

        def interrupted(*arguments):
            nonlocal n_calls
            n_calls += 1
            if n_calls == 2:
                raise KeyboardInterrupt
            decode_batch(*arguments)

        monkeypatch.setattr(model, "_decode_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.decode([6] * 590, position=1)
        assert model.n_tokens() == 1
        model.remove(0)
        np.testing.assert_array_equal(model.decode([7, 8], position=0), before)


def test_context_fills_to_the_last_token(language_model):
    language_model.decode([5] * 512, position=0)
    with pytest.raises(ArgumentError, match="expected at most 0 more tokens"):
        language_model.decode([5], position=512)
    language_model.remove(0, 500)
    language_model.decode([5] * 12, position=500)


def test_asked_for_context_counts_though_llama_cpp_rounds_up(text_gguf):
    with LanguageModel(text_gguf, n_ctx=100) as model:
        assert model.n_ctx == 100
        with pytest.raises(ArgumentError, match="at most 100 more"):
            model.decode([5] * 101, position=0)
        model.decode([5] * 100, position=0)


def test_arguments_out_of_range(text_gguf):
    for n_ctx in (-1, 1, 1 << 30):
        with pytest.raises(ArgumentError, match="n_ctx: expected 0"):
            LanguageModel(text_gguf, n_ctx=n_ctx)
    for n_threads in (-1, 100_000):
        with pytest.raises(ArgumentError, match="n_threads: expected 0"):
            LanguageModel(text_gguf, n_threads=n_threads)


def test_default_context_is_capped(tmp_path, caplog):
    path = tiny_gguf.write_text_gguf(tmp_path / "a.gguf", llama__context_length=1 << 20)
    with LanguageModel(path) as model:
        assert model.n_ctx == 4096
    short = tiny_gguf.write_text_gguf(tmp_path / "b.gguf")
    with caplog.at_level(logging.WARNING, "palo_cpp"), LanguageModel(short, n_ctx=1024) as model:
        assert model.n_ctx == 1024
    assert "trained with 512" in caplog.text


@pytest.mark.parametrize(("tuned", "expected"), [(256, 256), (0, 512), (5, 512), ("many", 512), (1 << 20, 4096)])
def test_default_context_is_what_palo_was_trained_with(tmp_path, tuned, expected):
    path = tiny_gguf.write_text_gguf(tmp_path / "a.gguf", palo__context_length=tuned)
    with LanguageModel(path) as model:
        assert model.n_ctx == expected


def test_closed_model_is_an_error_and_never_a_crash(text_gguf):
    model = LanguageModel(text_gguf)
    model.close()
    model.close()
    assert model.is_closed
    for call in (
        lambda: model.decode([5], position=0),
        lambda: model.tokenize("a"),
        lambda: model.tokenize_continued("a"),
        lambda: model.token_bytes(5),
        lambda: model.ends_generation(5),
        lambda: model.remove(0),
        lambda: model.copy(0, 1),
    ):
        with pytest.raises(ArgumentError, match="expected an open model, got a closed one"):
            call()


def test_many_loads_do_not_grow(text_gguf):
    for _ in range(30):
        LanguageModel(text_gguf, n_threads=1).decode([5], position=0)
    gc.collect()
    before = resident_bytes()
    for _ in range(100):
        LanguageModel(text_gguf, n_threads=1).decode([5], position=0)
    gc.collect()
    assert resident_bytes() - before < 8 << 20  # observed 0.5 MiB; one model is 2.5 MiB


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


def test_threads_share_a_model(language_model):
    """Many threads, a sequence each: every one gets what it gets alone."""
    prompts = [language_model.tokenize(f"question {i}", add_bos=True) for i in range(8)]
    expected = []
    for prompt in prompts:
        expected.append(language_model.decode(prompt, position=0))
        language_model.remove(0)
    results: dict[int, np.ndarray] = {}

    def work(i: int) -> None:
        for _ in range(5):
            language_model.remove(i)
            results[i] = language_model.decode(prompts[i], position=0, seq_id=i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, logits in enumerate(expected):
        np.testing.assert_allclose(results[i], logits, atol=ATOL)


def test_leaving_the_interpreter_with_open_models_is_quiet(text_gguf):
    code = f"""
from palo_cpp.llm.language_model import LanguageModel
from palo_cpp.ggml.llama_library import llama_library, recorded_errors
model = LanguageModel({str(text_gguf)!r})
def tokens():
    position = 0
    while True:
        yield model.decode([5], position=position)
        position += 1
live = tokens(); next(live)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_llama_cpp_speaks_through_logging_only(text_gguf, capfd, caplog):
    with caplog.at_level(logging.DEBUG, "palo_cpp.llama"), LanguageModel(text_gguf):
        pass
    assert any("n_ctx" in record.message for record in caplog.records)
    assert capfd.readouterr() == ("", "")
