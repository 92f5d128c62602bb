"""Everything `Palo` offers, on a small converted checkpoint; that its answers are right is in test_end_to_end.py."""

from __future__ import annotations

import base64
import gc
import io
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from palo_cpp import ArgumentError, ImageError, ModelFormatError, OutOfMemoryError, Palo
from palo_cpp.families.palo import family
from palo_cpp.families.palo.prompt import prompt_segments
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.languages.scripts import COMMON, script_of
from palo_cpp.models import loading
from palo_cpp.segments import ImageSegment, Turn

# ---- questions


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def test_every_kind_of_image_source_is_the_same_image(palo, picture, tmp_path):
    data = png(picture)
    (tmp_path / "चित्र.png").write_bytes(data)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    sources = [picture, data, io.BytesIO(data), PIL.Image.fromarray(picture), tmp_path / "चित्र.png", uri]
    answers = [palo.ask(source, "What is this?", max_tokens=4) for source in sources]
    assert len({answer.token_ids for answer in answers}) == 1
    assert len({answer.inputs.images[0].content_hash for answer in answers}) == 1
    assert answers[0].inputs.images[0].size == (120, 80)
    assert [answer.timings.encode_s > 0 for answer in answers] == [True] + [False] * 5


@pytest.mark.parametrize("code", LANGUAGES)
def test_asks_in_every_language(palo, picture, sentences, code):
    pieces = palo.stream(picture, sentences[code], lang=LANGUAGES[code].own_name, max_tokens=20)
    joined = "".join(piece.text for piece in pieces)
    answer = pieces.answer
    assert joined == answer.text == answer.text.strip()
    assert answer.language == code
    assert sentences[code] in answer.inputs.prompt


def test_image_decides_the_answer_and_none_works_too(palo, picture, other_picture):
    ids = {palo.ask(image, "What is this?", max_tokens=8).token_ids for image in (picture, other_picture, None)}
    assert len(ids) == 3


def test_warm_answers_equal_cold_ones(palo, picture, other_picture):
    cold = {}
    for name, image in {"one": picture, "other": other_picture}.items():
        palo.clear_cache()
        cold[name] = palo.ask(image, "What is this?", max_tokens=12).token_ids
    for _ in range(2):
        assert palo.ask(picture, "What is this?", max_tokens=12).token_ids == cold["one"]
        assert palo.ask(other_picture, "What is this?", max_tokens=12).token_ids == cold["other"]


def test_follow_up_reads_only_what_is_new(palo, picture):
    with palo.chat(picture, lang="fr") as chat:
        first = chat.ask("Que voyez-vous sur cette image ?", max_tokens=6, lang_mode="off")
        second = chat.ask("Et quoi d'autre y a-t-il ?", max_tokens=6, lang_mode="off")
    assert second.timings.n_cached_tokens == first.timings.n_prompt_tokens + 5
    assert second.timings.encode_s == 0


def test_describe_in_all_languages_reads_the_image_once(palo, picture):
    answers = palo.describe(picture, max_tokens=5)
    assert list(answers) == list(LANGUAGES)
    first, *rest = answers.values()
    assert first.timings.encode_s > 0 and first.timings.image_s > 0
    for answer in rest:
        assert answer.timings.encode_s == answer.timings.image_s == 0
        assert answer.timings.n_cached_tokens > palo.vision.info.n_image_tokens
    for code, answer in answers.items():
        assert answer.language == code
        assert LANGUAGES[code].default_question in answer.inputs.prompt
        assert answer.token_ids == palo.ask(picture, lang=code, max_tokens=5).token_ids


def test_describe_in_some_languages(palo, picture):
    assert list(palo.describe(picture, lang="Urdu", max_tokens=1)) == ["ur"]
    assert list(palo.describe(picture, lang=["ja", "हिन्दी", "ja"], max_tokens=1)) == ["ja", "hi"]
    for wrong in ([], "Klingon"):
        with pytest.raises(ArgumentError):
            palo.describe(picture, lang=wrong)


def test_embed_image_is_what_the_vision_encoder_makes(palo, picture):
    embeddings = palo.embed_image(picture)
    info = palo.vision.info
    assert embeddings.shape == (info.n_image_tokens, palo.language_model.n_embd) and embeddings.dtype == np.float32
    embeddings[:] = 0  # a copy: the cache is not touched
    assert np.abs(palo.embed_image(picture)).max() > 0


def test_preprocess_mode_is_the_files_unless_told(palo, model_dir, picture):
    assert palo.preprocess == "pad"
    with Palo(model_dir, preprocess="crop") as cropping:
        assert cropping.ask(picture, "What?", max_tokens=1).inputs.images[0].preprocess == "crop"
        assert not np.array_equal(cropping.embed_image(picture), palo.embed_image(picture))
    with pytest.raises(ArgumentError, match="preprocess: expected pad, crop or None, got 'stretch'"):
        Palo(model_dir, preprocess="stretch")


def test_unreadable_images_are_errors(palo, tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    for source in (tmp_path / "a.jpg", tmp_path / "missing.jpg", b"", "https://example.org/a.jpg", "data:image/png,!"):
        with pytest.raises(ImageError):
            palo.ask(source, "What is this?")


# ---- OpenAI's form


def completion(palo, picture, **parameters):
    url = "data:image/png;base64," + base64.b64encode(png(picture)).decode()
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    return palo.create_chat_completion(messages=[{"role": "user", "content": parts}], **parameters)


def test_chat_completion_equals_ask(palo, picture):
    answer = palo.ask(picture, "What is this?", max_tokens=15)
    reply = completion(palo, picture, max_tokens=15)
    assert reply["choices"][0]["message"]["content"] == answer.text
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["prompt_tokens"] == answer.timings.n_prompt_tokens
    assert reply["model"] == palo.name == "PALO-Small"
    chunks = list(completion(palo, picture, max_tokens=15, stream=True))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == answer.text


def test_chat_completion_with_earlier_turns_equals_the_prompt(palo):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "नमस्ते"},
        {"role": "assistant", "content": "سلام"},
        {"role": "user", "content": "What is this?"},
    ]
    reply = palo.create_chat_completion(messages, max_tokens=3)
    turns = [Turn("नमस्ते", "سلام"), Turn("What is this?")]
    segments = prompt_segments(palo.language_model, turns, system="Be brief.")
    assert reply["usage"]["prompt_tokens"] == sum(map(len, segments))


def test_chat_completion_shows_each_image_in_its_message(palo, picture, other_picture):
    def shows(image, text):
        url = "data:image/png;base64," + base64.b64encode(png(image)).decode()
        parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": url}]
        return {"role": "user", "content": parts}

    messages = [shows(picture, "क्या है?"), {"role": "assistant", "content": "سلام"}, shows(other_picture, "اور یہ؟")]
    image = ImageSegment("", palo.vision.info.n_image_tokens)
    turns = [Turn("क्या है?", "سلام", images=(image,)), Turn("اور یہ؟", images=(image,))]
    reply = palo.create_chat_completion(messages, max_tokens=3)
    assert reply["usage"]["prompt_tokens"] == sum(map(len, prompt_segments(palo.language_model, turns)))
    assert palo.create_chat_completion(messages[:1], max_tokens=3)["usage"]["prompt_tokens"] > len(image)


def test_chat_completion_refuses_before_anything_is_computed(palo, picture):
    with pytest.raises(ArgumentError, match=r"options|parameters"):
        completion(palo, picture, best_of=3)
    with pytest.raises(ArgumentError, match="data URI"):
        content = [{"type": "image_url", "image_url": "file:///etc/hostname"}]
        palo.create_chat_completion([{"role": "user", "content": content}])


# ---- loading and leaving


def test_a_model_that_cannot_fit_is_not_loaded(model_dir, monkeypatch):
    monkeypatch.setattr(loading, "memory_available", lambda: 10 << 20)
    monkeypatch.setattr(family, "LanguageModel", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(OutOfMemoryError, match=r"memory: expected \d+ MiB .* got 10 MiB available; choose"):
        Palo(model_dir)


def test_widths_that_differ_are_one_sentence(model_dir, monkeypatch):
    class Narrow(family.VisionEncoder):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.info = replace(self.info, n_embd=17)

    monkeypatch.setattr(family, "VisionEncoder", Narrow)
    with pytest.raises(ModelFormatError, match=r"expected image embeddings of width 256 .* got 17; put"):
        Palo(model_dir)


def test_n_ctx_and_threads_reach_the_model(model_dir, picture):
    with Palo(model_dir, n_ctx=160, n_threads=1) as palo:
        assert (palo.language_model.n_ctx, palo.language_model.n_threads) == (160, 1)
        answer = palo.ask(picture, "What is this?", max_tokens=1000)
        assert answer.finish_reason in ("context", "stop")
        with pytest.raises(ArgumentError, match="tokens, got"):
            palo.ask(picture, "word " * 100)
    with pytest.raises(ArgumentError, match="n_ctx"):
        Palo(model_dir, n_ctx=-5)


def test_closed_palo_is_an_error(model_dir, picture):
    palo = Palo(model_dir)
    stream = palo.stream(picture, "What is this?", max_tokens=50)
    next(stream)
    palo.close()
    palo.close()
    with pytest.raises(ArgumentError, match="closed"):
        list(stream)
    for call in (lambda: palo.ask(picture), lambda: palo.chat(), lambda: palo.embed_image(picture)):
        with pytest.raises(ArgumentError, match="expected an open model, got a closed one"):
            call()


def test_threads_may_share_a_palo(palo, picture, other_picture):
    jobs = [(image, f"Question {i}?") for i in range(3) for image in (picture, other_picture)]
    expected = [palo.ask(image, question, max_tokens=8).token_ids for image, question in jobs]
    results: dict[int, tuple[int, ...]] = {}

    def work(i: int) -> None:
        results[i] = palo.ask(*jobs[i], max_tokens=8).token_ids

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[i] for i in range(len(jobs))] == expected


def test_leaving_the_interpreter_in_the_middle_of_an_answer_is_quiet(model_dir):
    code = f"""
import numpy as np
from palo_cpp import Palo
palo = Palo({str(model_dir)!r})
stream = palo.stream(np.zeros((9, 7, 3), np.uint8), "What is this?")
next(stream)
chat = palo.chat()
live = chat.stream("And?"); next(live)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_memory_stays_flat_over_many_images(palo):
    def resident_mib() -> float:
        statm = Path("/proc/self/statm")
        return int(statm.read_text().split()[1]) / 256 if statm.exists() else 0.0

    def ask(n: int) -> None:
        for i in range(n):
            image = np.full((64, 48, 3), i % 251, np.uint8)
            image[i % 64] = i // 251
            palo.ask(image, "What?", max_tokens=1)
        gc.collect()

    ask(50)
    before = resident_mib()
    ask(250)
    assert resident_mib() - before < 8  # observed 0.6; an image is 50 KiB, and the embedding cache keeps 4 of it


@pytest.mark.parametrize("code", LANGUAGES)
def test_strict_keeps_the_script_of_the_language(palo, picture, code):
    own = {COMMON, *LANGUAGES[code].letters}
    for i in range(2):
        answer = palo.ask(picture, f"{i}?", lang=code, lang_mode="strict", max_tokens=24)
        assert answer.text and {script_of(character) for character in answer.text} <= own
    off = palo.ask(picture, "1?", lang=code, lang_mode="off", max_tokens=24)
    assert not {script_of(character) for character in off.text} <= own


def test_how_a_language_is_kept_is_checked(palo, picture):
    with pytest.raises(ArgumentError, match="lang_mode: expected strict, prefer, off, got 'severe'; choose one"):
        palo.ask(picture, lang="hi", lang_mode="severe")
    reply = palo.create_chat_completion(
        [{"role": "user", "content": "What is 1 + 1?"}], lang="ru", lang_mode="strict", max_tokens=24
    )
    own = {COMMON, *LANGUAGES["ru"].letters}
    assert {script_of(character) for character in reply["choices"][0]["message"]["content"]} <= own
