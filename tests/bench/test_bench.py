"""The measuring tool itself: its figures, its JSON, both sides on a tiny random model. No time is asserted."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from bench_command import bench_command
from palo_cpp.convert.families.palo.sizes import Projector

from palo_cpp.bench import palo_sizes
from palo_cpp.bench import run as bench_run
from palo_cpp.bench import sizes as bench_sizes
from palo_cpp.bench.contestant import Setup
from palo_cpp.bench.fidelity import compare, compare_logits, token_cosines
from palo_cpp.bench.figures import METRICS, BenchReport, SideTimes, ratios
from palo_cpp.bench.noise import Noise, describe_machine, watched_noise
from palo_cpp.bench.plan import STAGES, BenchPlan
from palo_cpp.bench.run import run_bench
from palo_cpp.bench.synthetic import synthetic_mmproj, synthetic_text
from palo_cpp.bench.table import as_text
from palo_cpp.bench.worker import peak_rss_bytes
from palo_cpp.bench.worker_process import WorkerProcess
from palo_cpp.cli import bench as cli_bench
from palo_cpp.errors import ArgumentError, ModelFormatError, ModelNotFoundError
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.models.names import PUBLISHED

TINY_TEXT = replace(
    palo_sizes.PALO_MODELS["mobile"].text,
    n_embd=64,
    n_ff=96,
    n_layer=2,
    n_head=4,
    n_head_kv=4,
    head_dim=16,
    n_vocab=512,
)
TINY_VISION = replace(palo_sizes.CLIP_L_336, image_size=56, n_embd=32, n_ff=64, n_layer=3, n_head=2, select_layer=2)
TINY = palo_sizes.PaloSizes("tiny", TINY_TEXT, TINY_VISION, Projector("mlp2x_gelu", "mlp", 2, 32, 64))
BY_LENGTH = ("prefill_tokens_per_s", "decode_tokens_per_s_by_context", "beam_step_ms_by_context")
KEYS = ["machine", "isa", "n_threads", "model", "palo_cpp", "llama_cpp", "ratio", "fidelity"]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch, cache):
    monkeypatch.setenv("PALO_CPP_CACHE", str(cache))
    monkeypatch.setitem(bench_sizes.MODELS, "tiny", TINY)


# --- figures


def times(factor=1.0):
    """Times of a side that takes `factor` times as long and as much."""
    return SideTimes(
        encode=[1.0 * factor, 2.0 * factor, 9.0 * factor],
        projector=[0.5 * factor],
        load=[4.0 * factor],
        first_token=[3.0 * factor],
        prefill={144: [0.5 * factor], 640: [4.0 * factor]},
        generate={64: [2.0 * factor], 1000: [4.0 * factor]},
        beams={64: [3.2 * factor]},
        n_generated=32,
        peak_rss=int(100 * 2**20 * factor),
    )


def report(**changes):
    values = {
        "machine": "a machine",
        "isa": "ref",
        "n_threads": 2,
        "model": "tiny",
        "files": {},
        "n_runs": 3,
        "is_alternating": True,
        "sides": {"palo_cpp": times(), "llama_cpp": times(2.0)},
        "fidelity": {"encode_cosine": 1.0, "encode_max_abs_error": 0.0},
        "noise": Noise().to_dict(),
        "llama_cpp_isa": "AVX2 = 1",
    }
    return BenchReport(**{**values, **changes})


def test_figures_are_medians_in_the_units_that_their_names_say():
    assert times().figures() == {
        "encode_ms": 2000.0,
        "projector_ms": 500.0,
        "load_ms": 4000.0,
        "prefill_tokens_per_s": {"144": 288.0, "640": 160.0},
        "decode_tokens_per_s": 16.0,
        "decode_tokens_per_s_by_context": {"64": 16.0, "1000": 8.0},
        "beam_step_ms_by_context": {"64": 100.0},
        "first_token_ms": 3000.0,
        "peak_rss_mib": 100.0,
    }
    assert times().spread()["encode_ms"] == [1000.0, 9000.0]


def test_a_ratio_above_one_means_that_we_are_faster_or_smaller():
    found = ratios(times().figures(), times(2.0).figures())
    assert list(found) == list(METRICS)
    assert found.pop("prefill_tokens_per_s") == {"144": 2.0, "640": 2.0}
    assert found.pop("decode_tokens_per_s_by_context") == {"64": 2.0, "1000": 2.0}
    assert found.pop("beam_step_ms_by_context") == {"64": 2.0}
    assert set(found.values()) == {2.0}


def test_a_ratio_below_one_means_that_llama_cpp_is_better():
    found = ratios(times(4.0).figures(), times().figures())
    assert found["decode_tokens_per_s"] == found["encode_ms"] == found["peak_rss_mib"] == 0.25


def test_what_was_not_measured_is_null_and_has_no_ratio():
    ours = SideTimes(encode=[1.0])
    found = report(sides={"palo_cpp": ours, "llama_cpp": times()}).to_dict()
    assert found["palo_cpp"]["load_ms"] is found["palo_cpp"]["prefill_tokens_per_s"] is None
    assert found["ratio"]["load_ms"] is found["ratio"]["prefill_tokens_per_s"] is found["ratio"]["peak_rss_mib"] is None
    assert found["ratio"]["encode_ms"] == 2.0


def test_json_has_the_promised_keys():
    found = json.loads(json.dumps(report().to_dict()))
    assert list(found)[: len(KEYS)] == KEYS
    assert list(found["palo_cpp"]) == list(found["llama_cpp"]) == list(found["ratio"]) == list(METRICS)


def test_without_llama_cpp_there_is_nothing_to_compare():
    found = report(sides={"palo_cpp": times()}).to_dict()
    assert found["llama_cpp"] is found["ratio"] is None
    assert "llama.cpp" in as_text(report(sides={"palo_cpp": times()}))


def test_the_table_shows_medians_spread_and_ratio():
    text = as_text(report())
    assert "encode an image, ms 2000 (1000-9000) 4000 (2000-18000) 2.00x" in " ".join(text.split())
    assert "prefill 640 tokens, tokens/s" in text
    assert "do not quote" not in text
    assert "do not quote" in as_text(report(noise=Noise(other_cpu_percent=50.0).to_dict()))
    assert "one after the other" in as_text(report(is_alternating=False))


# --- fidelity


def test_fidelity_is_the_worst_token_against_the_reference():
    reference = np.float32([[1, 0], [0, 2]])
    found = compare(np.float32([[1, 0], [2, 2]]), reference, peer=reference * 3)
    assert found["encode_cosine"] == pytest.approx(0.5**0.5)
    assert found["encode_max_abs_error"] == 2.0
    assert found["encode_max_abs"] == 2.0
    assert found["llama_cpp_cosine"] == pytest.approx(1.0)
    assert "llama_cpp_cosine" not in compare(reference, reference, peer=None)


def test_cosine_of_nothing_is_no_error():
    assert token_cosines(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)) == [0.0]


# --- the machine


def test_noise_knows_a_busy_machine():
    assert Noise(other_cpu_percent=50.0).is_noisy
    assert not Noise(other_cpu_percent=1.0).is_noisy
    assert not Noise().is_noisy
    with watched_noise() as noise:
        noise.sample_clock()
    assert noise.other_cpu_percent is None or 0 <= noise.other_cpu_percent <= 100


def test_machine_and_memory_are_told():
    assert "cores" in describe_machine()
    if sys.platform != "win32":
        assert 2**20 < peak_rss_bytes() < 2**40


# --- a whole run


def plan(**changes):
    text, mmproj = synthetic_text(TINY, "f16"), synthetic_mmproj(TINY, "f16")
    small = {"n_runs": 2, "prompt_tokens": (5, 9), "n_gen": 3, "contexts": (4,)}
    return BenchPlan("tiny", text, mmproj, n_threads=1, **{**small, **changes})


def test_both_sides_run_every_stage_on_the_same_files():
    result = bench_command(
        "tiny",
        "--synthetic",
        "--outtype",
        "f16",
        "--runs",
        "2",
        "--prompt-tokens",
        "5,9",
        "--n-gen",
        "3",
        "--context",
        "4,7",
        "--backend",
        "palo",
        "--threads",
        "1",
        "--json",
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert list(found)[: len(KEYS)] == KEYS
    assert (found["n_threads"], found["model"], found["n_runs"]) == (1, "synthetic tiny", 2)
    assert found["isa"] and found["llama_cpp_isa"]
    for side in ("palo_cpp", "llama_cpp", "ratio"):
        assert list(found[side]["prefill_tokens_per_s"]) == ["5", "9"]
        assert all(value > 0 for value in found[side]["prefill_tokens_per_s"].values())
        assert list(found[side]["decode_tokens_per_s_by_context"]) == ["4", "7"]
        assert all(value > 0 for value in found[side]["decode_tokens_per_s_by_context"].values())
        assert all(found[side][name] > 0 for name in METRICS if name not in BY_LENGTH)
    assert found["spread"]["palo_cpp"]["encode_ms"][0] <= found["palo_cpp"]["encode_ms"]
    assert found["palo_cpp"]["encode_ms"] <= found["spread"]["palo_cpp"]["encode_ms"][1]
    assert -1 <= found["fidelity"]["llama_cpp_cosine"] <= 1
    assert found["fidelity"]["encode_cosine"] > 0.999
    assert found["backend"] == "palo"
    assert (
        0 < found["fidelity"]["logits_kl"] <= found["fidelity"]["logits_kl_max"] < 1e-3
    )  # 0 would be llama.cpp itself
    assert found["fidelity"]["top1_agreement"] > 0.9
    assert 0.1 < found["read_gb_per_s"] < 10_000 and found["read_tokens_per_s"] > 0


def test_llama_cpps_side_never_computes_with_our_kernels():
    chosen = plan(stages=frozenset(["decode"]), n_runs=1, backend="palo")
    with WorkerProcess("llama_cpp", chosen.setup()) as side:
        side.ask("load")
        assert side.ask("has_our_kernels") is False
    with WorkerProcess("palo_cpp", chosen.setup()) as side:
        side.ask("load")
        assert side.ask("has_our_kernels") is True


def test_logits_that_agree_have_no_divergence():
    reference = np.random.default_rng(0).standard_normal((3, 7)).astype(np.float32)
    found = compare_logits(reference + 5, reference)  # a constant is no difference of probabilities
    assert found["logits_kl"] == pytest.approx(0, abs=1e-9) and found["top1_agreement"] == 1
    certain = np.full((1, 2), 0.0, np.float32)
    found = compare_logits(certain, np.array([[0.0, np.log(3)]], np.float32))  # 1/2, 1/2 against 1/4, 3/4
    assert found["logits_kl"] == pytest.approx(0.25 * np.log(0.5) + 0.75 * np.log(1.5), abs=1e-6)
    assert found["top1_agreement"] == 0


def test_weights_read_per_token_leave_out_the_embedding_matrix():
    header = bench_run.read_header(plan().text)
    embedding = header.tensors["token_embd.weight"].n_bytes
    total = sum(tensor.n_bytes for tensor in header.tensors.values())
    assert bench_run.weight_bytes_per_token(header) == total - embedding


def test_words_per_second_and_guesses_stand_below_the_table():
    hindi = {"words_per_s": 2.0, "guessed": 0.5, "guessed_right": 0.25, "drafted": 0.4}
    english = {"words_per_s": 8.0, "guessed": 0.0, "guessed_right": 0.0, "drafted": 0.0}
    found = report(written={"en": english, "hi": hindi})
    assert found.to_dict()["written"]["hi"] == hindi
    assert "words per second: en 8, hi 2\nsteps that a right guess saved: en 0%, hi 25%" in as_text(found)
    assert "tokens that the draft model was asked for: en 0%, hi 40%" in as_text(found)
    assert "draft model" not in as_text(report(written={"en": english}))
    assert report().to_dict()["written"] is None


def test_words_per_second_are_told_of_a_model_that_speaks():
    # As long as an answer, several times, and on one thread: other programs disturb it less.
    result = bench_command("nano", "--only", "decode", "--vs", "none", "--runs", "5", "--n-gen", "48", "--context", "4",
                 "--threads", "1", "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found["written"]) == set(LANGUAGES)
    for each in found["written"].values():
        # Tokens of a word, and choosing them; one of nano's can be several words.
        assert 0.2 < found["palo_cpp"]["decode_tokens_per_s"] / each["words_per_s"] < 60
        assert 0 <= each["guessed_right"] <= each["guessed"] <= 1


def test_only_what_was_asked_for_is_measured():
    result = bench_command("tiny", "--synthetic", "--only", "encode", "--vs", "none", "--runs", "1", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["palo_cpp"]["encode_ms"] > 0 and found["palo_cpp"]["peak_rss_mib"] > 0
    assert {found["palo_cpp"][name] for name in METRICS if name not in ("encode_ms", "peak_rss_mib")} == {None}
    assert found["llama_cpp"] is found["ratio"] is found["fidelity"] is None
    assert "stub" in found["files"]["text"]
    assert found["written"] is None


def test_text_on_stdout_is_a_table():
    result = bench_command("tiny", "--synthetic", "--only", "encode", "--runs", "1")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split() == ["palo_cpp", "llama.cpp", "ratio"]
    assert "encode an image, ms" in result.stdout and "load" not in result.stdout


def test_sides_run_one_after_the_other_where_memory_is_short(monkeypatch):
    chosen = plan(stages=frozenset(["decode"]), n_runs=1)
    files = bench_run.model_files(*(bench_run.read_header(path) for path in (chosen.text, chosen.mmproj)))
    one = bench_run.needed_memory(files, bench_run.Choices(bench_run.LoadOptions(n_ctx=chosen.n_ctx))).total
    monkeypatch.setattr(bench_run, "memory_available", lambda: one * 3 // 2)
    found = run_bench(chosen).to_dict()
    assert found["is_alternating"] is False
    assert found["ratio"]["decode_tokens_per_s"] > 0
    monkeypatch.setattr(bench_run, "memory_available", lambda: one // 2)
    with pytest.raises(MemoryError):
        run_bench(chosen)


def test_a_side_that_refuses_a_file_says_so(tmp_path):
    chosen = plan()
    broken = tmp_path / "mmproj-broken.gguf"
    broken.write_bytes(chosen.mmproj.read_bytes()[:2000])
    with pytest.raises(ModelFormatError):
        run_bench(replace(chosen, mmproj=broken))
    with (
        WorkerProcess("llama_cpp", Setup(chosen.text, broken, 1, 0)) as side,
        pytest.raises(ModelFormatError, match=r"^llama\.cpp: mmproj-broken\.gguf: could not load: "),
    ):
        side.ask("load")


# --- bad arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'MODEL'"),
        (["tiny", "--synthetic", "--prompt-tokens", "x"], "expected counts of tokens"),
        (["tiny", "--synthetic", "--prompt-tokens", "0"], "expected counts of tokens"),
        (["tiny", "--synthetic", "--context", "0"], "expected counts of tokens"),
        (["tiny", "--synthetic", "--backend", "gpu"], "--backend"),
        (["tiny", "--synthetic", "--runs", "0"], "--runs"),
        (["tiny", "--synthetic", "--n-gen", "0"], "--n-gen"),
        (["tiny", "--synthetic", "--only", "lunch"], "--only"),
        (["tiny", "--synthetic", "--vs", "ollama"], "--vs"),
    ],
)
def test_wrong_usage(arguments, message):
    result = bench_command(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr and result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "--synthetic"], "expected a model of known sizes (mobile, 7b, 13b, viscpm,"),
        (["tiny", "--synthetic", "--outtype", "q9"], "--outtype: expected one of f32"),
        (["tiny", "--synthetic", "--outtype", "q4_k_m"], "expected rows of a multiple of 256"),
        (["tiny", "--synthetic", "--mmproj-outtype", "q4_0", "--only", "encode"], "--mmproj-outtype: expected one of"),
        (["nowhere"], "nowhere"),
        (["7b"], "or add --synthetic"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message):
    result = bench_command(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_plan_checks_itself():
    with pytest.raises(ArgumentError, match="stages"):
        plan(stages=frozenset(["lunch"]))
    with pytest.raises(ArgumentError, match="at least one"):
        plan(n_runs=0)
    assert plan(stages=frozenset(["encode", "fidelity"])).n_ctx == 0
    with pytest.raises(ArgumentError, match="--context"):
        plan(contexts=(0,))
    assert plan(contexts=(64,), speaks=False).n_ctx == 768  # 576 image tokens and the text around them, in whole steps
    assert plan(contexts=(64,)).n_ctx == 1024  # and an answer behind a question in any of the ten languages
    assert plan(prompt_tokens=(2000,), n_gen=100).n_ctx == 2048
    assert plan(contexts=(64, 2000), n_gen=100).n_ctx == 2304


def test_the_command_line_names_the_stages_and_models_there_are():
    assert cli_bench.STAGES == STAGES
    assert set(PUBLISHED) == set(bench_sizes.MODELS) - {"tiny"}


def test_a_name_without_files_is_not_found():
    with pytest.raises(ModelNotFoundError):
        cli_bench._files("13b", "", "", frozenset(), print)
