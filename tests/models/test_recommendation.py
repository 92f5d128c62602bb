"""What a model would need on a machine, worked out by hand, and which one is recommended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palo_cpp.bench.palo_sizes import PALO_MODELS
from palo_cpp.bench.random_blocks import n_bytes
from palo_cpp.errors import ArgumentError
from palo_cpp.families.palo.published import PUBLISHED
from palo_cpp.families.published import VisionCost
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.llm.text_sizes import TextSizes
from palo_cpp.models import recommendation
from palo_cpp.models.recommendation import (
    OUTTYPES,
    MachineSpeed,
    decode_s,
    fit_of,
    memory_and_disk,
    predict,
    prefill_s,
    recommend,
)
from palo_cpp.models.weight_types import MAIN_TYPES, decoder_bytes, n_products_per_token

GIB = 1 << 30
# Two cores with AVX2, as measured: 21 GB/s of memory, 0.1 T products of 8 bits per second.
LAPTOP = MachineSpeed("avx2", 2, 21e9, 95e9, dict.fromkeys(OUTTYPES, 110e9), dict.fromkeys(OUTTYPES, 30e9))
FAST = MachineSpeed("avx512vnni", 16, 200e9, 2e12, dict.fromkeys(OUTTYPES, 3e12), dict.fromkeys(OUTTYPES, 300e9))
SLOW = MachineSpeed("ref", 1, 4e9, 2e9, dict.fromkeys(OUTTYPES, 2e9), dict.fromkeys(OUTTYPES, 1e9))

# One layer, nothing of which is a matrix of odd sizes: 64 wide, two heads, 32 values a key.
TINY_TEXT = TextSizes(
    n_embd=64,
    n_ff=128,
    n_layer=2,
    n_head=2,
    n_head_kv=2,
    n_key=32,
    n_value=32,
    n_vocab=512,
    n_ctx_train=256,
    n_ctx=256,
)
TINY = replace(
    PUBLISHED["7b"],
    text=TINY_TEXT,
    vision=VisionCost(n_weights=1000, n_products=5_000, n_image_tokens=4),
    n_prompt_tokens=6,
    tokens_per_word={"en": 2.0, "hi": 6.0},
    scores={"en": 60.0, "hi": 40.0},
)
ATTENTION, FEED_FORWARD, OUTPUT = 4 * 64 * 64, 3 * 64 * 128, 512 * 64


def machine(total: int, speed: MachineSpeed = LAPTOP, language: str | None = None):
    """A recommendation for a machine of that many GiB, of which a GiB and a half is taken."""
    return recommend(speed, available=total * GIB - 3 * GIB // 2, total=total * GIB, language=language)


# ---- sizes


@pytest.mark.parametrize("outtype", MAIN_TYPES)
@pytest.mark.parametrize("name", PALO_MODELS)
def test_bytes_are_those_of_the_tensors_that_are_written(name, outtype):
    content = PALO_MODELS[name].text_file(outtype)
    written = {spec.gguf: n_bytes(spec.gguf_shape, content.type_of(spec)) for spec in content.specs}
    assert decoder_bytes(PUBLISHED[name].text, outtype) == written


def test_disk_of_known_files():
    _, disk = memory_and_disk(PUBLISHED["7b"], "Q4_K_M")
    assert disk / GIB == pytest.approx(4.38, abs=0.01)  # 3.80 of text, 0.58 of mmproj


def test_unknown_type_is_refused():
    with pytest.raises(ArgumentError, match=r"outtype: expected one of f32, f16.*got 'q9_z'"):
        memory_and_disk(PUBLISHED["7b"], "q9_z")


# ---- times, by hand


def test_products_of_a_prompt_leave_out_what_only_its_last_token_needs():
    assert n_products_per_token(TINY_TEXT) == 2 * ATTENTION + FEED_FORWARD


def test_prefill_is_products_and_attention_over_speed():
    speed = replace(LAPTOP, prefill={"f16": 1e6})
    attention = 2 * 64 * 10 * 10  # layers, width, half of the pairs for scores and values each
    assert prefill_s(TINY, "f16", speed) == pytest.approx((10 * (2 * ATTENTION + FEED_FORWARD) + 3 * attention) / 1e6)


def test_decode_reads_weights_and_cells_once():
    norms = 4 * (2 * 2 + 1) * 64
    weights = 2 * (2 * (ATTENTION + FEED_FORWARD) + OUTPUT) + norms
    cells = (10 + 64) * 2 * 2 * 2 * (32 + 32)
    by_memory = replace(LAPTOP, read=1e6, decode={"f16": 5e6})
    by_products = replace(LAPTOP, read=5e6, decode={"f16": 1e6})
    for speed in (by_memory, by_products):
        assert decode_s(TINY, "f16", speed) == pytest.approx((weights + cells) / 1e6)
    waiting = replace(by_memory, layer_s=0.25)
    assert decode_s(TINY, "f16", waiting) == pytest.approx((weights + cells) / 1e6 + 2 * 0.25)


def test_first_word_is_encode_prefill_and_the_tokens_of_a_word():
    speed = replace(LAPTOP, encode=1e3, prefill={"f16": 1e6}, decode={"f16": 1e6})
    token_s = decode_s(TINY, "f16", speed)
    for language, n_tokens in (("en", 2), ("hi", 6), (None, 4)):
        found = predict(TINY, "f16", speed, language)
        assert found.words_per_s == pytest.approx(1 / (n_tokens * token_s))
        assert found.first_word_s == pytest.approx(5 + prefill_s(TINY, "f16", speed) + n_tokens * token_s)


def test_a_type_that_was_not_measured_counts_as_one_alike_or_as_the_slowest():
    speed = replace(LAPTOP, prefill={"q4_k_m": 4e9, "q8_0": 2e9})
    slow, alike = replace(LAPTOP, prefill={"q5_0": 2e9}), replace(LAPTOP, prefill={"q4_k_s": 4e9})
    assert prefill_s(PUBLISHED["7b"], "q5_0", speed) == prefill_s(PUBLISHED["7b"], "q5_0", slow)
    assert prefill_s(PUBLISHED["7b"], "q4_k_s", speed) == prefill_s(PUBLISHED["7b"], "q4_k_s", alike)


# ---- what fits


@pytest.mark.parametrize(
    ("available", "total", "fit"),
    [(10, 20, "yes"), (9, 20, "tight"), (9, 11, "no"), (9, 12, "tight"), (9, None, "no"), (None, None, "yes")],
)
def test_what_fits(available, total, fit):
    assert fit_of(10, available, total) == fit


FITTING = {
    4: {"mobile q4_0", "mobile q4_k_m", "mobile q8_0"},
    8: {"mobile q4_0", "mobile q4_k_m", "mobile q8_0", "7b q4_0", "7b q4_k_m"},
    16: {f"{name} {outtype}" for name in PUBLISHED for outtype in OUTTYPES} - {"13b q8_0"},
    64: {f"{name} {outtype}" for name in PUBLISHED for outtype in OUTTYPES},
}


@pytest.mark.parametrize("total", FITTING)
def test_what_machines_can_run(total):
    found = machine(total).candidates
    assert {f"{each.name} {each.outtype}" for each in found if each.fit == "yes"} == FITTING[total]


@pytest.mark.parametrize("language", [None, *LANGUAGES])
@pytest.mark.parametrize(("total", "name"), [(4, "mobile"), (8, "7b")])
def test_a_small_laptop_is_recommended_what_it_can_run(total, name, language):
    found = machine(total, language=language)
    assert found.chosen is not None and found.chosen.name == name
    assert found.chosen.score == PUBLISHED[name].score(language)
    assert found.command == f"palo-cpp pull {name} --outtype {found.chosen.outtype}"


@pytest.mark.parametrize("language", [None, *LANGUAGES])
def test_a_fast_machine_is_recommended_the_best_in_the_language(language):
    found = machine(64, FAST, language)
    chosen = found.chosen
    assert chosen is not None
    # 13B is better by two points but in English (1.3), Bengali (1.8) and Arabic, where 7B is better.
    assert chosen.name == ("7b" if language in ("en", "bn", "ar") else "13b")
    largest = next(each for each in found.candidates if (each.name, each.outtype) == (chosen.name, "q8_0"))
    assert chosen.outtype == ("q8_0" if largest.prediction.words_per_s >= 4 else "q4_k_m")


def test_a_patient_laptop_is_not_recommended_what_it_cannot_write_in_time():
    found = machine(64, LAPTOP, "bn")
    assert found.chosen is not None and found.chosen.name == "7b"
    thirteen = next(each for each in found.candidates if each.name == "13b")
    assert thirteen.fit == "yes" and not thirteen.is_patient


def test_where_all_are_slow_the_fastest_is_recommended():
    found = machine(64, SLOW, "hi")
    assert found.chosen is not None and not found.chosen.is_patient
    assert (found.chosen.name, found.chosen.outtype) == ("mobile", "q4_0")
    assert found.weakness == "it is weak in Hindi (26.8 of 100)"


def test_where_nothing_fits_nothing_is_recommended():
    found = machine(2)
    assert found.chosen is None and found.command is None and found.weakness is None
    assert found.to_dict()["recommended"] is None


def test_a_model_that_lacks_a_language_is_not_proposed_for_it(monkeypatch):
    two = replace(PUBLISHED["13b"], scores={"en": 80.0, "zh": 80.0}, tokens_per_word={"en": 1.2, "zh": 1.2})
    monkeypatch.setitem(recommendation.PUBLISHED, "13b", two)
    assert {each.name for each in machine(64, FAST, "hi").candidates} == {"mobile", "7b"}
    assert machine(64, FAST, "zh").chosen.name == "13b"


def test_as_json_names_everything():
    found = machine(8, language="ur").to_dict()
    assert found["language"] == "ur" and found["command"] == "palo-cpp pull 7b --outtype q4_k_m"
    assert found["machine"]["memory_total_bytes"] == 8 * GIB and found["machine"]["isa"] == "avx2"
    assert len(found["models"]) == 9
    assert found["recommended"] in found["models"]
    assert found["scores_from"][0]["judge"] == "GPT-4" and "2402.14818" in found["scores_from"][0]["source"]
