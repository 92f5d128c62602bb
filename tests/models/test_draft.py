"""A smaller model drafts: it sees what the larger one sees, changes no answer, and is asked only where that helps."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
from checkpoints import SMALL, write_checkpoint
from click.testing import CliRunner
from palo_cpp.convert import convert

import palo_cpp.decoding.speculation
import palo_cpp.models.draft_model
from nano.scoring import held_out_questions
from palo_cpp import Palo
from palo_cpp.bench.contestant import Setup
from palo_cpp.bench.palo_side import PaloCpp
from palo_cpp.cli import palo_cpp as command
from palo_cpp.decoding.speculation.step_times import StepTimes
from palo_cpp.errors import ArgumentError, ModelFormatError, OutOfMemoryError
from palo_cpp.families.family import LoadOptions
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.llm.kv_cache import KvCache
from palo_cpp.models.draft_model import check_draft
from palo_cpp.models.files import find_model
from palo_cpp.models.loading import Choices, needed_memory
from palo_cpp.segments import ImageSegment, TextSegment
from palo_cpp.vision.encoder import VisionEncoder
from palo_cpp.vision.image_embedder import SharedTower


class Asking(StepTimes):
    """Asks the draft model whatever it costs, and reads whatever it guesses."""

    is_too_quick = False
    draft_cost = -2.0
    cost = 0.0  # as measured on a busy machine it may be anything

    def gain(self, guess):
        return guess.probability if guess else 0.0


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """Nano with values of zero in all attention: it knows which token follows which, and nothing of the image."""
    return copied(tmp_path_factory.mktemp("blind"), text=lambda name: name.endswith("attn_v.weight"))


def copied(folder, *, text=lambda _: False, mmproj=lambda _: False):
    """Nano's files with zeros instead of some tensors."""
    for path, is_zeroed in ((find_model("nano").text.path, text), (find_model("nano").mmproj.path, mmproj)):
        copy = folder / path.name
        shutil.copy(path, copy)
        with copy.open("r+b") as file:
            for tensor in read_header(copy).tensors.values():
                if is_zeroed(tensor.name):
                    file.seek(tensor.offset)
                    file.write(bytes(tensor.n_bytes))
    return folder


def drafted_by(folder):
    palo = Palo("nano", backend="palo", draft=folder)
    palo._model.prefix.speculation.times = Asking()
    return palo


@pytest.fixture(scope="module")
def twin():
    """Nano with itself for a draft model."""
    with drafted_by("nano") as palo:
        yield palo


@pytest.fixture(scope="module")
def with_blind(blind):
    with drafted_by(blind) as palo:
        yield palo


# ---- answers


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "seed": 7}])
def test_the_answers_are_the_same(plain, twin, with_blind, code, options):
    n_drafted = 0
    for question in held_out_questions(2, [code]):
        image, asked = question.picture.render(), question.exchange.question
        told = [p.ask(image, asked, lang=code, max_tokens=60, **options) for p in (plain, twin, with_blind)]
        assert len({(answer.token_ids, answer.finish_reason) for answer in told}) == 1
        n_drafted += min(answer.timings.n_drafted for answer in told[1:])
        assert told[0].timings.n_drafted == 0
    assert n_drafted > 0


def test_who_sees_the_image_guesses_better(twin, with_blind, monkeypatch):
    """The same weights guess all that the language mask does not refuse; without the image, not so."""
    monkeypatch.setattr(palo_cpp.decoding.speculation.counts.Guesser, "guess", lambda _: None)
    shares = []
    for palo in (twin, with_blind):
        timings = [palo.ask(q.picture.render(), lang="en").timings for q in held_out_questions(3, ["en"])]
        shares.append(sum(t.n_guessed_right for t in timings) / sum(t.n_guessed for t in timings))
    assert shares[0] > 0.95
    assert shares[1] < 0.8


def test_a_conversation_with_two_images_is_followed(plain, twin):
    pictures = [question.picture.render() for question in held_out_questions(2)]
    told = {}
    for palo in (plain, twin):
        with palo.chat(pictures[0], lang="ur") as chat:
            told[palo] = [chat.ask()]
            chat.add_image(pictures[1])
            told[palo] += [chat.ask(), chat.ask("اس کے بارے میں اور بتائیں")]
    assert [a.token_ids for a in told[plain]] == [a.token_ids for a in told[twin]]
    last = told[twin][-1].timings
    assert last.n_guessed_right > 0.8 * last.n_guessed > 0


def test_the_tower_runs_once_for_both(blind, monkeypatch):
    towers = []
    run = VisionEncoder.hidden_states
    monkeypatch.setattr(VisionEncoder, "hidden_states", lambda self, pixels: towers.append(self) or run(self, pixels))
    monkeypatch.setattr(VisionEncoder, "encode", lambda *_: pytest.fail("the tower ran by itself"))
    with drafted_by(blind) as palo:
        assert palo.ask(held_out_questions(1)[0].picture.render()).timings.n_drafted > 0
        assert towers == [palo.vision]
        assert palo._model.prefix.draft.projector.info.n_layer == 0  # no second tower in memory


def test_how_likely_it_finds_its_guess(twin):
    segments = [TextSegment((1, 5, 6))]
    draft, cache = twin._model.prefix.draft.follow(segments), KvCache(twin._model.prefix.draft.model)
    for token in (7, 8):
        draft.take(token)
        segments.append(TextSegment((token,)))
    guess = draft.guess()
    twin._model.prefix.draft.forget()
    logits = cache.prefill(segments, {}).logits.astype(np.float64)
    assert guess.token == logits.argmax()
    assert guess.probability == pytest.approx(np.exp(logits.max()) / np.exp(logits).sum(), rel=1e-4)
    twin._model.prefix.draft.forget()


def test_a_cleared_cache_and_a_closed_model(blind):
    palo = drafted_by(blind)
    image = held_out_questions(1)[0].picture.render()
    first = palo.ask(image)
    palo.clear_cache()
    assert palo._model.prefix.draft.model.n_tokens() == 0
    assert palo.ask(image).token_ids == first.token_ids
    palo.close()
    palo.close()
    assert palo._model.prefix.draft.model.is_closed


def test_a_prompt_longer_than_the_draft_models_context(plain, blind, monkeypatch):
    image = held_out_questions(1)[0].picture.render()
    monkeypatch.setattr(palo_cpp.models.draft_model, "draft_n_ctx", lambda _files, _n_ctx: 128)
    monkeypatch.setattr(palo_cpp.decoding.speculation.drafting, "_N_READ_AT_ONCE", 1000)
    with drafted_by(blind) as palo:
        assert palo.ask(image).timings.n_drafted > 0
        answer = palo.ask(image, "What is there? " * 40)
    assert answer.token_ids == plain.ask(image, "What is there? " * 40).token_ids
    assert answer.timings.n_drafted == 0


def test_nothing_is_drafted_about_an_image_whose_pixels_are_gone(twin):
    image = ImageSegment("gone", 4)
    assert twin._model.prefix.draft.follow([TextSegment((1, 5)), image, TextSegment((6,))]) is None
    assert twin._model.prefix.draft.follow([TextSegment((1, 5))]) is not None


# ---- the vision tower of both


def test_a_projector_without_a_tower_projects_the_same():
    path, size = find_model("nano").mmproj.path, 0
    with VisionEncoder(path, n_threads=1) as whole, VisionEncoder(path, n_threads=1, with_tower=False) as projector:
        size = whole.info.image_size
        pixels = np.random.default_rng(0).normal(size=(3, size, size)).astype(np.float32)
        hidden = whole.hidden_states(pixels)
        assert np.array_equal(projector.project(hidden), whole.encode(pixels))
        assert projector.info.n_layer == 0


def test_few_images_are_kept():
    class Tower:
        n_runs = 0

        def hidden_states(self, _):
            self.n_runs += 1
            return np.zeros((1, 1), np.float32)

    tower = Tower()
    shared = SharedTower(tower)
    for name in "aabacdea":
        shared.hidden_states(None, name)
    assert tower.n_runs == 5  # a was used when c to e came
    shared.hidden_states(None, "b")
    assert tower.n_runs == 6
    shared.forget()
    shared.hidden_states(None, "b")
    assert tower.n_runs == 7


def test_models_of_other_widths_and_projectors(tmp_path, monkeypatch):
    """As PALO-7B and MobilePALO are: one tower and vocabulary, other image embeddings, and other numbers of them."""
    monkeypatch.setattr(palo_cpp.decoding.speculation.drafting, "_N_READ_AT_ONCE", 1000)
    sizes = {"mlp2x_gelu": SMALL, "ldpnet": replace(SMALL, n_embd=512, n_head=8, n_layer=1)}
    for projector, size in sizes.items():
        write_checkpoint(tmp_path / f"{projector}-checkpoint", projector=projector, size=size)
        convert(tmp_path / f"{projector}-checkpoint", tmp_path / projector, outtype="q8_0")
    model, draft = (tmp_path / projector for projector in sizes)
    image = held_out_questions(1)[0].picture.render()
    with Palo(model, backend="palo", speculation=False) as palo:
        expected = palo.ask(image, max_tokens=64)
    with Palo(model, backend="palo", draft=draft) as palo:
        palo._model.prefix.speculation.times = Asking()
        answer = palo.ask(image, max_tokens=64)
        n_read = palo._model.prefix.draft.model.n_tokens()
    assert (answer.token_ids, answer.text) == (expected.token_ids, expected.text)
    assert answer.timings.n_drafted > 5
    # 16 embeddings of the image for one, 4 for the other; the last tokens come without a guess.
    n_seen = answer.timings.n_prompt_tokens + len(answer.token_ids)
    assert n_seen - 16 + 4 - 3 <= n_read <= n_seen - 16 + 4


# ---- who may draft


def test_another_vocabulary_is_refused(model_dir):
    with pytest.raises(ArgumentError, match=r"draft: expected the vocabulary of PALO-Nano.*, got another one in"):
        check_draft(find_model("nano"), find_model(model_dir))


def test_another_tower_is_refused(tmp_path):
    folder = copied(tmp_path, mmproj=lambda name: name == "v.blk.3.attn_q.weight")
    with pytest.raises(ArgumentError, match="draft: expected the vision tower of mmproj-PALO-Nano"):
        Palo("nano", draft=folder)


def test_another_projector_is_none_of_its_business(tmp_path):
    folder = copied(tmp_path, mmproj=lambda name: name.startswith("mm."))
    check_draft(find_model("nano"), find_model(folder))


def test_a_projector_of_another_model_is_refused(monkeypatch):
    monkeypatch.setattr(palo_cpp.models.draft_model, "check_widths", refuse)
    with pytest.raises(ModelFormatError, match="of another width"):
        Palo("nano", backend="palo", draft="nano")


def refuse(_, *, n_embd, n_embd_image):
    assert n_embd == n_embd_image  # nano's
    raise ModelFormatError("of another width")


def test_where_nothing_is_guessed_it_stays_unloaded(blind, caplog):
    with caplog.at_level(logging.WARNING), Palo("nano", backend="cpu", draft=blind) as palo:
        assert palo._model.prefix.draft is None
    assert [r.message for r in caplog.records if "draft" in r.message] == [
        "the draft model is not used: speculation is off, or llama.cpp's own kernels are in use"
    ]


def test_its_memory_counts():
    files = find_model("nano")
    alone = needed_memory(files, Choices(LoadOptions(n_ctx=1024)))
    both = needed_memory(files, Choices(LoadOptions(n_ctx=1024), draft=files))
    assert both.text == 2 * files.text.size_bytes
    assert both.vision == alone.vision


def test_two_models_that_would_not_fit_together(monkeypatch):
    files = find_model("nano")
    enough = needed_memory(files, Choices()).total
    monkeypatch.setattr("palo_cpp.models.loading.memory_available", lambda: enough)
    Palo("nano").close()
    with pytest.raises(OutOfMemoryError):
        Palo("nano", draft="nano")


def test_bench_writes_with_it(monkeypatch):
    files, drafts = find_model("nano"), []
    monkeypatch.setattr("palo_cpp.bench.palo_side.N_WRITTEN", 2)
    for draft in (None, "nano"):
        bench = PaloCpp(Setup(files.text.path, files.mmproj.path, 1, 512, backend="palo", draft=draft))
        bench.prepare()
        bench.load()
        bench.set_image(np.zeros((bench._encoder.info.image_size,) * 2 + (3,), np.uint8))
        assert set(bench.written()) == set(LANGUAGES)
        drafts.append(bench._loaded.prefix.draft)
    assert drafts[0] is None
    assert drafts[1].model.path == files.text.path


def test_on_the_command_line(blind, tmp_path):
    image = tmp_path / "scene.png"
    held_out_questions(1)[0].picture.render().save(image)
    arguments = ["ask", str(image), "--lang", "ja"]
    told = [CliRunner().invoke(command, [*arguments, *more]) for more in ([], ["--draft", str(blind)])]
    assert told[0].stdout == told[1].stdout and told[1].exit_code == 0
    missing = CliRunner().invoke(command, [*arguments, "--draft", "nowhere"])
    assert missing.exit_code == 1
    assert "model nowhere: expected a folder, a GGUF file or ORG/NAME on the hub" in missing.stderr
