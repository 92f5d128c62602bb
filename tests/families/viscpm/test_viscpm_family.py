"""VisCPM as a family: recognized, sized, laid out, refused; what is known of the published model."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from palo_cpp.convert import convert
from palo_cpp.convert.families.viscpm.mixtures import cpm_bee_types
from palo_cpp.convert.families.viscpm.sizes import TextSizes as Sizes
from palo_cpp.convert.families.viscpm.sizes import VisionSizes
from palo_cpp.convert.families.viscpm.tensor_rows import text_specs, vision_specs
from viscpm_checkpoint import TINY, vocabulary, write_viscpm_checkpoint
from viscpm_numpy import NumpyBeeEngine

from palo_cpp import ArgumentError, ModelFormatError, Palo
from palo_cpp.chat.context_budget import fit
from palo_cpp.cli import palo_cpp as command
from palo_cpp.cli.recommend import as_text
from palo_cpp.decoding.beam_search import BeamOptions, BeamSearch
from palo_cpp.decoding.options import DecodingOptions
from palo_cpp.families.family import LoadOptions
from palo_cpp.families.registry import VISCPM
from palo_cpp.families.viscpm.beam_model import BeeBeamModel
from palo_cpp.families.viscpm.published import PUBLISHED, SCORES
from palo_cpp.families.viscpm.tokenizer import BOS_ID, EOS_ID, BeeTokenizer
from palo_cpp.models import names
from palo_cpp.models.checkpoint_files import configuration_files, weight_files
from palo_cpp.models.files import find_model
from palo_cpp.models.loading import Choices, needed_memory
from palo_cpp.models.names import hub_name, published_as
from palo_cpp.models.recommendation import MachineSpeed, predict, recommend
from palo_cpp.models.weight_types import decoder_bytes
from palo_cpp.segments import ImageSegment, Turn

MODEL = PUBLISHED["viscpm"]
PICTURE = ImageSegment("a picture", TINY.n_queries)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    checkpoint = write_viscpm_checkpoint(tmp_path_factory.mktemp("checkpoint") / "VisCPM-Chat")
    convert(checkpoint, tmp_path_factory.getbasetemp() / "viscpm-model")
    return tmp_path_factory.getbasetemp() / "viscpm-model"


@pytest.fixture(scope="module")
def files(folder):
    return find_model(folder)


@pytest.fixture
def model(files):
    return BeeBeamModel(NumpyBeeEngine(files.text.path, n_ctx=160), VISCPM.tokenizer(files.text))


def test_a_converted_pair_is_a_model(files):
    assert files.family is VISCPM and files.mmproj is not None and files.name == "VisCPM-Chat"
    assert VISCPM.languages(files.text) == ("zh", "en")
    sizes = VISCPM.sizes(files.text)
    assert (sizes.n_embd, sizes.n_ff, sizes.n_layer, sizes.n_head) == (64, 96, 3, 4) and sizes.is_tied
    assert sizes.n_vocab == len(vocabulary()) and sizes.n_ctx == 3513


def test_the_defaults_are_the_published_ones():
    beam = VISCPM.capabilities.beam
    assert beam is not None
    options = (beam.n_beams, beam.temperature, beam.repetition_penalty, beam.length_penalty)
    assert options == (3, 0.7, 1.1, 3.0) and beam.opening == (6,)
    assert DecodingOptions(**VISCPM.defaults).max_tokens == 512 + 2
    assert not VISCPM.capabilities.reuses_prefix and not VISCPM.capabilities.has_byte_tokens


def test_published_models_search_as_many_paths_as_the_family():
    assert {model.n_beams for model in PUBLISHED.values()} == {VISCPM.capabilities.n_beams}


def test_the_oldest_turns_leave_and_the_question_stays(model):
    turns = [Turn(f"这是什么？{i}", "一只猫。" * 3, images=(PICTURE,) if i == 0 else ()) for i in range(30)]
    fitted = fit(VISCPM, model, turns, Turn("图中有什么？"), system="", max_tokens=514)
    assert 0 < fitted.n_dropped < 30 and fitted.history == (*fitted.history[:1], *turns[fitted.n_dropped + 1 :])
    assert fitted.turn.question == "图中有什么？" and fitted.history[0].images == (PICTURE,)
    assert sum(map(len, fitted.segments)) + 160 // 8 <= 160
    with pytest.raises(ArgumentError, match="question: expected a prompt of at most 159 tokens"):
        fit(VISCPM, model, turns, Turn("图中有什么？" * 90), system="", max_tokens=514)


@pytest.mark.parametrize(("question", "lang"), [("这是什么？", "zh"), ("What is this?", "en")])
def test_from_a_picture_to_an_answer(folder, files, picture, question, lang):
    """The C++ eye and tongue through the front door, against beam search over the numpy engine."""
    with Palo(folder, n_ctx=160, n_threads=1, vision_precision="float") as palo:
        answer = palo.ask(picture, question, lang=lang, lang_mode="off", max_tokens=12)
        rows = palo.embed_image(picture)
    assert rows.shape == (TINY.n_queries, 64) and answer.n_images == 1
    numpy_model = BeeBeamModel(NumpyBeeEngine(files.text.path, n_ctx=160), VISCPM.tokenizer(files.text))
    segments = VISCPM.prompt(numpy_model, [Turn(question, images=(PICTURE,))], system="")
    found = BeamSearch(BeamOptions(opening=(BOS_ID,)), numpy_model.token_table_for(segments).ends_generation, 12)
    found.take(numpy_model.prefill(segments, {"a picture": rows})[np.newaxis])
    while not found.is_finished:
        found.take(numpy_model.step(found.parents, found.tokens))
    assert tuple(answer.token_ids) == tuple(token for token in found.best.tokens if token != EOS_ID)


def test_other_languages_are_refused_with_who_knows_them(folder, picture):
    says = "got Hindi; choose one of them, or a model that knows Hindi: MobilePALO"
    with Palo(folder, n_ctx=160, n_threads=1) as palo, pytest.raises(ArgumentError, match=says):
        palo.ask(picture, "?", lang="hi")


def test_a_damaged_file_is_refused(files):
    from dataclasses import replace

    for key in ("cpmbee.block_count", "cpmbee.attention.head_count"):
        with pytest.raises(ModelFormatError, match=f"expected a positive {key}, got 0"):
            VISCPM.check(replace(files.text, metadata={**files.text.metadata, key: 0}))
    with pytest.raises(ModelFormatError, match="expected <s> in line 7, got 'x'"):
        VISCPM.check(replace(files.text, tokens=[*files.text.tokens[:6], b"x", *files.text.tokens[7:]]))


def test_show_and_doctor_know_the_files(folder):
    for name in ("show", "doctor"):
        done = CliRunner().invoke(command, [name, *(("-m",) if name == "doctor" else ()), str(folder)])
        assert done.exit_code == 0, done.output
    shown = CliRunner().invoke(command, ["show", str(folder)]).stdout
    for part in ("cpmbee", "beit3", "n_layer         3", "image_size      48", "image tokens    8", "zh en", "stretch"):
        assert part in shown, part
    assert "General Model License" in shown


# What is known before a byte of it is here ---------------------------------------------------------------------------


def published_specs():
    text = Sizes(86583, 4096, 10240, 48, 32, 256, 256, 2048, 1e-6)
    vision = VisionSizes(224, 16, 1024, 4096, 24, 64, 199, 1024)
    return text_specs(text), vision_specs(vision, 4096)


def test_all_parameters_are_counted():
    """10,318,225,408 of the published file: what is converted, and what is not needed."""
    text, vision = published_specs()
    sources = {name: shape for spec in (*text, *vision) for name, shape in spec.sources}
    dropped = 8192 * 1024 + 8192 + 64010 * 1024 + 1024 + 2 * 1024
    assert sum(map(math.prod, sources.values())) + dropped == 10_318_225_408


def test_vision_has_as_many_weights_as_its_tensors():
    assert MODEL.vision.n_weights == sum(math.prod(spec.gguf_shape) for spec in published_specs()[1])
    assert MODEL.vision.n_image_tokens == 64
    # The last layer's image tokens have no queries, no outputs and no feed-forward part.
    left_out = 2 * 197 * (10 * 1024**2 + 2 * 261 * 1024)
    assert 2 * MODEL.vision.n_products == pytest.approx(165e9 + 2.7e9 - left_out, rel=0.01)


@pytest.mark.parametrize("outtype", ["f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0"])
def test_sizes_are_predicted_as_they_are_written(outtype):
    from palo_cpp.convert.block_types import output_type, tensor_bytes

    specs = [spec for spec in published_specs()[0] if spec.gguf != "rel_attn_bias"]
    types = cpm_bee_types(specs, outtype)
    written = {s.gguf: tensor_bytes(s.gguf_shape, types.get(s.gguf) or output_type(s, outtype)) for s in specs}
    assert decoder_bytes(MODEL.text, outtype) == written
    if outtype == "q4_0":  # the specification's table
        layers = sum(n for name, n in written.items() if name.startswith("blk."))
        assert layers == pytest.approx(5.21e9, rel=0.01)
        assert written["token_embd.weight"] == pytest.approx(0.29e9, rel=0.02)


def test_names_scores_and_terms():
    assert str(hub_name("viscpm")) == "openbmb/VisCPM-Chat" and published_as("openbmb/VisCPM-Chat") is MODEL
    assert (MODEL.score("zh"), MODEL.score("en")) == (86.3, 81.1) and set(MODEL.scores) == {"zh", "en"}
    assert [each["zh"] for each in SCORES.values()] == [86.3, 88.2, 92.5]
    assert "individuals" in MODEL.licenses[0].name and all(each.url.startswith("https://") for each in MODEL.licenses)


def test_a_pull_takes_the_vocabulary_and_one_of_the_checkpoints():
    listed = ["README.md", "beit3.py", "config.json", "modeling_cpmbee.py", "vocab.txt", *SCORES]
    assert weight_files(listed) == ["pytorch_model.bin"]
    assert set(configuration_files(listed)) == {"README.md", "config.json", "vocab.txt"}


def test_words_of_an_english_sentence_are_as_many_tokens_as_said():
    tokenizer = BeeTokenizer(vocabulary())
    assert len(tokenizer.encode("What is in the picture?")) / 5 == MODEL.n_tokens_per_word("en")
    n_chinese = [len(tokenizer.encode(text)) for text in ("这幅图像是在哪个节日拍摄的？", "图中有什么？")]
    assert np.mean(n_chinese) / (np.mean([14, 6]) / 2) == pytest.approx(MODEL.n_tokens_per_word("zh"), rel=0.03)


# Its name in help texts, and what is said of its speed ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["pull", "ask", "chat", "describe", "serve"])
def test_help_lists_all_names(name):
    shown = " ".join(CliRunner().invoke(command, [name, "--help"]).stdout.split())
    assert ", ".join(names.PUBLISHED) in shown and "viscpm" in names.PUBLISHED and "MODEL_NAMES" not in shown


def test_help_looks_names_up_when_it_is_shown():
    code = (
        "import sys, palo_cpp.cli, palo_cpp.cli.ask, palo_cpp.cli.pull; print('palo_cpp.models.names' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_recommend_says_that_its_times_are_those_of_one_path():
    speed = MachineSpeed("avx2", 2, 2e10, 5e11, {"q4_k_m": 5e11}, {"q4_k_m": 2e10})
    found = recommend(speed, available=32 << 30, total=32 << 30, language="zh")
    said = " ".join(as_text(found, 100).split())
    assert "(VisCPM-Chat) fits; as q4_k_m it takes about" in said
    assert "These times are those of --beams 1; by itself it searches 3 answers side by side" in said
    (other, *_) = found.to_dict()["other_models"]
    assert (other["times_with_n_beams"], other["n_beams"]) == (1, 3)
    assert VISCPM.capabilities.n_beams == MODEL.n_beams == 3


def test_a_smaller_copy_answers_as_well(folder, picture, tmp_path):
    (text,) = folder.glob("VisCPM*.gguf")
    (mmproj,) = folder.glob("mmproj*.gguf")
    for path, outtype in ((text, "q8_0"), (mmproj, "q8_0")):
        done = CliRunner().invoke(command, ["quantize", str(path), outtype, "-o", str(tmp_path), "--json"])
        assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.glob("*.gguf")} == {
        "VisCPM-Chat-Q8_0.gguf",
        "mmproj-VisCPM-Chat-Q8_0.gguf",
    }
    with Palo(tmp_path, n_ctx=160, n_threads=1) as palo:
        assert palo.ask(picture, "这是什么？", max_tokens=4, lang_mode="off").token_ids


# What it takes of the machine's memory --------------------------------------------------------------------------------


def test_memory_is_for_one_prompt_however_many_may_wait(files):
    """Keys and values of three paths that share a prompt; a server's -np makes no difference."""
    needed = [
        needed_memory(files, Choices(LoadOptions(n_ctx=1000, n_parallel=n_parallel))) for n_parallel in (1, 4, 16)
    ]
    assert needed[0] == needed[1] == needed[2]
    cell_bytes = 2 * 2 * 3 * 64  # keys and values, f16, layers, width
    assert needed[0].kv_cache == (1000 + 2 * 513) * cell_bytes
    longer = needed_memory(files, Choices(LoadOptions(n_ctx=3513)))
    assert longer.kv_cache == (3513 + 2 * 513) * cell_bytes and needed[0].compute < longer.compute


def test_the_published_model_fits_where_recommend_says_so():
    needs = predict(MODEL, "q4_0", MachineSpeed("avx2", 2, 2e10, 5e11, {"q4_0": 5e11}, {"q4_0": 2e10}))
    cells = (3513 + 2 * 513) * 2 * 2 * 48 * 4096
    weights = sum(decoder_bytes(MODEL.text, "q4_0").values())
    assert needs.memory_bytes == pytest.approx(weights + cells + MODEL.vision.n_weights * 68 / 64, rel=0.05)
