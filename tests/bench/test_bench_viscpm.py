"""The measuring tool on VisCPM: random files as the converter writes them, whole prompts, steps of several paths."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from bench_command import bench_command
from palo_cpp.convert.families.viscpm.tensor_rows import text_specs, vision_specs

from palo_cpp.bench import sizes as bench_sizes
from palo_cpp.bench.figures import BenchReport, SideTimes
from palo_cpp.bench.noise import Noise
from palo_cpp.bench.operations import prefill_operations
from palo_cpp.bench.plan import BenchPlan
from palo_cpp.bench.synthetic import synthetic_mmproj, synthetic_text
from palo_cpp.bench.table import as_text
from palo_cpp.bench.viscpm_sizes import VISCPM_MODELS, VisCpmSizes
from palo_cpp.errors import ArgumentError
from palo_cpp.families.viscpm.published import PUBLISHED
from palo_cpp.ggml.gguf_header import read_header
from palo_cpp.llm.text_sizes import TextSizes
from palo_cpp.models.files import find_model

PUBLIC = VISCPM_MODELS["viscpm"]
# Rows of 256 and layers enough for the mixtures.
TINY = VisCpmSizes(
    "bee",
    replace(PUBLIC.text, n_vocab=600, n_embd=256, n_ff=512, n_layer=8, n_head=2),
    replace(PUBLIC.vision, image_size=32, n_embd=64, n_ff=128, n_layer=2, n_queries=5, n_a=7, n_b=9),
)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch, cache):
    monkeypatch.setenv("PALO_CPP_CACHE", str(cache))
    monkeypatch.setitem(bench_sizes.MODELS, "bee", TINY)


# --- files


def test_the_published_model_has_its_true_size():
    # 10,318,225,408 numbers are published, of which the file lacks what inference never reads: mim_head, text_embed,
    # the mask token, the final norm of the image tokens, and rows of the two tables of positions that are summed away.
    unused = 8192 * 1025 + 64010 * 1024 + 1024 + 2 * 1024 + (199 - 196) * 1024 + 1024 * 1024
    specs = [*text_specs(PUBLIC.text), *vision_specs(PUBLIC.vision, PUBLIC.text.n_embd)]
    n = sum(math.prod(spec.gguf_shape) for spec in specs)
    assert n + unused == 10_318_225_408
    assert PUBLISHED["viscpm"].vision.n_weights == sum(
        math.prod(spec.gguf_shape) for spec in vision_specs(PUBLIC.vision, PUBLIC.text.n_embd)
    )


@pytest.mark.parametrize(
    ("outtype", "types"), [("q4_0", {"Q4_0"}), ("q4_k_m", {"Q4_K", "Q6_K"}), ("q8_0", {"Q8_0"}), ("f16", {"F16"})]
)
def test_types_are_the_converters_mixture(outtype, types):
    import gguf

    header = read_header(synthetic_text(TINY, outtype))
    found = {name: gguf.GGMLQuantizationType(tensor.type).name for name, tensor in header.tensors.items()}
    assert {kind for name, kind in found.items() if name.startswith("blk.") and "norm" not in name} == types
    assert found["token_embd.weight"] == {"q8_0": "Q8_0", "f16": "F16"}.get(outtype, "Q6_K")
    assert found["rel_attn_bias"] == "F16" and found["output_norm.weight"] == "F32"


def test_the_files_are_a_pair_and_nobody_takes_them_for_a_real_model():
    text, mmproj = synthetic_text(TINY, "q4_0"), synthetic_mmproj(TINY, "f16")
    files = find_model(text)
    assert files.mmproj is not None and files.mmproj.path == mmproj
    for path in (text, mmproj):
        assert read_header(path).metadata["palo.synthetic"] is True
        assert "synthetic" in read_header(path).metadata["general.name"]


# --- runs


def test_every_stage_is_measured_without_llama_cpp():
    result = bench_command(
        "bee",
        "--synthetic",
        "--outtype",
        "f16",
        "--runs",
        "2",
        "--n-gen",
        "3",
        "--prompt-tokens",
        "20,40",
        "--context",
        "20",
        "--threads",
        "1",
        "--json",
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    ours = found["palo_cpp"]
    assert "beit3" in found["llama_cpp_left_out"] and found["llama_cpp"] is None
    assert set(ours["prefill_tokens_per_s"]) == {"20", "40"}
    for name in ("decode_tokens_per_s_by_context", "beam_step_ms_by_context"):
        assert set(ours[name]) == {"20"} and ours[name]["20"] > 0
    for name in ("encode_ms", "projector_ms", "load_ms", "first_token_ms", "peak_rss_mib"):
        assert ours[name] > 0
    assert found["fidelity"]["encode_cosine"] > 0.99
    assert found["shares"]["beams"]["20"] > 0
    assert found["shares"]["decode"]["20"] > 0
    if found["int8_peak_gop_per_s"]:
        assert set(found["shares"]["prefill"]) == {"20", "40"}


def test_usual_lengths_are_those_of_a_request():
    text, mmproj = synthetic_text(TINY, "f16"), synthetic_mmproj(TINY, "f16")
    plan = BenchPlan("bee", text, mmproj, speaks=False)
    assert (plan.n_paths, plan.prompt_tokens, plan.contexts) == (3, (89, 600), (89, 600))
    assert BenchPlan("bee", text, mmproj, prompt_tokens=(5,), contexts=(7,)).prompt_tokens == (5,)


def test_a_model_that_decodes_one_path_has_no_beams_to_measure():
    files = find_model("nano")
    with pytest.raises(ArgumentError, match=r"^beams: expected a model that searches several paths"):
        BenchPlan("nano", files.text.path, files.mmproj.path, stages=frozenset(["beams"]))


# --- shares


def test_operations_of_a_prompt_are_counted_by_hand():
    sizes = TextSizes(
        n_embd=8, n_ff=16, n_layer=2, n_head=2, n_head_kv=2, n_key=4, n_value=4, n_vocab=32, n_ctx_train=16, n_ctx=16
    )
    square, feed_forward, logits = 4 * 8 * 8, 3 * 8 * 16, 32 * 8
    # Of the last layer's feed-forward part and the logits there is one row; q k and p v take 8 of a token and another.
    matrices = 5 * (2 * square + feed_forward) + feed_forward + logits
    assert prefill_operations(sizes, 5, is_causal=False) == 2 * (matrices + 2 * (8 + 8) * 25)
    assert prefill_operations(sizes, 5, is_causal=True) == 2 * (matrices + 2 * (8 + 8) * 15)


def test_shares_compare_with_the_machines_limits():
    times = SideTimes(
        encode=[0.5], prefill={89: [2.0]}, generate={89: [4.0]}, beams={89: [5.0]}, n_generated=10, peak_rss=1 << 20
    )
    report = BenchReport(
        machine="a machine",
        isa="avx2",
        n_threads=2,
        model="bee",
        files={},
        n_runs=1,
        is_alternating=True,
        sides={"palo_cpp": times},
        fidelity=None,
        noise=Noise().to_dict(),
        llama_cpp_isa=None,
        read_speed=30e9,
        bytes_per_token=10_000_000_000,
        int8_peak=300e9,
        operations={"": 90_000_000_000, "89": 420_000_000_000},
        n_paths=3,
    )
    assert report.shares() == {
        "encode": pytest.approx(0.6),
        "prefill": {"89": pytest.approx(0.7)},
        "decode": {"89": pytest.approx(10 / 4 / 3)},
        "beams": {"89": pytest.approx(1.25)},
    }
    text = as_text(report)
    assert "a step of 3 paths after 89 tokens, ms 500" in " ".join(text.split())
    assert "share of the peak of int8 products (300 GOP/s): an image 0.60, 89 tokens 0.70" in text
    assert "decode, share of a plain read: after 89 tokens 0.83" in text
    assert "a step of 3 paths, in steps of one: after 89 tokens 1.25" in text
