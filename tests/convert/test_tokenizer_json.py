"""`tokenizer.json` alone gives the ids of the `tokenizers` library in ten languages (goldens/tokenizer_json.json)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
from checkpoints import DATA, SMALL, write_checkpoint
from converted_files import keys
from golden_files import FOLDER
from llama_vocabulary import VECTORS, load_vocabulary
from palo_cpp.convert import convert
from palo_cpp.convert.sentencepiece_model import read_sentencepiece
from palo_cpp.convert.token_table import TokenTable
from palo_cpp.convert.tokenizer_json import read_tokenizer_json as read_table
from tokenizer_files import read_tokenizer_json, write_tokenizer_json

from palo_cpp.errors import ModelFormatError, ModelNotFoundError
from palo_cpp.llm.language_model import LanguageModel

SIZE = replace(SMALL, n_vocab=992)  # more rows than tokens
KINDS = ("first", "always", "normalizer")


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    folder = tmp_path_factory.mktemp("tokenizer")
    source = write_checkpoint_without_model(folder / "llava")
    write_tokenizer_json(source, request.param)
    with LanguageModel(convert(source, folder / "gguf").model_path, n_ctx=64) as model:
        yield model


def write_checkpoint_without_model(folder: Path) -> Path:
    source = write_checkpoint(folder, projector="linear", size=SIZE)
    (source / "tokenizer.model").unlink()
    return source


def table(
    folder: Path,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
    kind: str = "first",
    n_vocab: int = 992,
) -> TokenTable:
    content = read_tokenizer_json(kind)
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return read_table(folder / "tokenizer.json", n_vocab)


def test_ids_are_those_of_the_tokenizers_library(model):
    cases = json.loads((FOLDER / "tokenizer_json.json").read_text(encoding="utf-8"))
    assert len(cases) >= 88 and sum(len(ids) for _, ids in cases) > 3000
    for text, ids in cases:
        assert model.tokenize(text) == ids, text
        assert model.tokenize(text, add_bos=True) == [1, *ids]


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_is_that_of_the_sentencepiece_model(tmp_path, kind):
    ours, theirs = table(tmp_path, kind=kind), read_sentencepiece(DATA / "tokenizer.model", 992)
    assert (ours.tokens[:960], ours.scores[:960], ours.types[:960]) == (
        theirs.tokens[:960],
        theirs.scores[:960],
        theirs.types[:960],
    )
    assert (ours.bos_id, ours.eos_id, ours.unk_id) == (1, 2, 0) and ours.warnings == []


@pytest.mark.parametrize(("kind", "legacy"), [("first", False), ("always", True), ("normalizer", True)])
def test_where_a_space_is_put_before_a_text(tmp_path, kind, legacy):
    found = table(tmp_path, kind=kind)
    assert (found.add_space_prefix, found.legacy) == (True, legacy)

    def never(content: dict[str, Any]) -> None:
        content["pre_tokenizer"]["prepend_scheme"] = "never"

    assert not table(tmp_path, never).add_space_prefix


def test_added_tokens(tmp_path):
    def add(content: dict[str, Any]) -> None:
        template = content["added_tokens"][0]
        content["added_tokens"].append(template | {"id": 970, "content": "▁very▁long", "special": False})
        content["added_tokens"].append(template | {"id": 2000, "content": "<far>"})

    found = table(tmp_path, add)
    assert [found.tokens[i] for i in (960, 961, 962, 970)] == [b"<image>", b"<pad>", b"[PAD962]", b" very long"]
    assert [found.types[i] for i in (0, 1, 2, 3, 300, 960, 962, 970)] == [2, 3, 3, 6, 1, 3, 5, 4]
    assert found.warnings == [f"{tmp_path}: token 2000 '<far>' has no row in the embedding matrix"]


def test_special_tokens_are_named_by_tokenizer_config(tmp_path):
    def rename(content: dict[str, Any]) -> None:
        for text, new in (("<s>", "<start>"), ("</s>", "<end>")):
            content["model"]["vocab"][new] = content["model"]["vocab"].pop(text)
        content["added_tokens"][1]["content"], content["added_tokens"][2]["content"] = "<start>", "<end>"

    config = {"bos_token": "<start>", "eos_token": {"content": "<end>", "__type": "AddedToken"}, "unk_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    found = table(tmp_path, rename)
    assert (found.bos_id, found.eos_id, found.tokens[1]) == (1, 2, b"<start>")
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(ModelFormatError, match=r"tokenizer\.json: bos: expected a token id below 992, got None"):
        table(tmp_path, rename)


def test_a_base_models_tokenizer_is_found_for_an_adapter(tmp_path):
    lora = write_checkpoint(tmp_path / "lora", lora=True, size=SIZE)
    (lora / "base" / "tokenizer.model").unlink()
    with pytest.raises(ModelNotFoundError, match=r"lora: no tokenizer\.model or tokenizer\.json; copy one"):
        convert(lora, tmp_path / "gguf")
    write_tokenizer_json(lora / "base")
    tokens = keys(convert(lora, tmp_path / "gguf").model_path)["tokenizer.ggml.tokens"]
    assert tokens[959:963] == ["二", "<image>", "<pad>", "[PAD962]"]


# --- LLaMA's own vocabulary -----------------------------------------------------------------------------------------


def rules_of(tokens: list[str], scores: list[float]) -> list[list[str]]:
    """The rules that transformers makes of a SentencePiece model: every split of a piece, by its score and halves."""
    known = set(tokens)
    rules = [
        (score, token[:i], token[i:])
        for token, score in zip(tokens, scores, strict=True)
        for i in range(1, len(token))
        if token[:i] in known and token[i:] in known
    ]
    rules.sort(key=lambda rule: (-rule[0], -len(rule[1]), -len(rule[2])))
    return [[left, right] for _, left, right in rules]


def test_llamas_own_vocabulary_keeps_its_ids(tmp_path):
    """32000 pieces and 61249 rules: the table that comes out tokenizes llama.cpp's own test texts as they must be."""
    for path in VECTORS:
        stored = keys(path.with_name(path.name.replace(".inp.txt", ".gguf")))
        found = table_of_pieces(tmp_path, stored["tokenizer.ggml.tokens"], stored["tokenizer.ggml.scores"])
        assert found.warnings == [] and found.types == stored["tokenizer.ggml.token_type"]
        vocabulary, free = load_vocabulary(write_vocabulary(tmp_path / "vocabulary.gguf", found))
        try:
            texts = path.read_bytes().decode().split("\n__ggml_vocab_test__\n")
            lines = path.with_name(path.name.replace(".inp.", ".out.")).read_text().split("\n")
            for text, line in zip(texts, lines[: len(texts)], strict=True):
                assert vocabulary.tokenize(text) == [int(token) for token in line.split()], text
        finally:
            free()


def table_of_pieces(folder: Path, tokens: list[str], scores: list[float]) -> TokenTable:
    def change(content: dict[str, Any]) -> None:
        content["added_tokens"] = content["added_tokens"][:3]
        content["model"]["vocab"] = {token: i for i, token in enumerate(tokens)}
        content["model"]["merges"] = rules_of(tokens, scores)

    return table(folder, change, n_vocab=len(tokens))


def write_vocabulary(path: Path, found: TokenTable) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    for name in ("context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"):
        writer.add_uint32(f"llama.{name}", 1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(found.tokens))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(found.tokens)
    writer.add_token_scores(found.scores)
    writer.add_token_types(found.types)
    writer.add_unk_token_id(found.unk_id)
    writer.add_add_space_prefix(found.add_space_prefix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


# --- merges that llama.cpp orders otherwise -------------------------------------------------------------------------


def test_the_only_rule_of_a_token_may_stand_anywhere(tmp_path):
    moved = []

    def reorder(content: dict[str, Any]) -> None:
        merges = content["model"]["merges"]
        joined = ["".join(pair) for pair in merges]
        moved.append(next(text for text in reversed(joined) if joined.count(text) == 1))
        merges.insert(0, merges.pop(joined.index(moved[0])))

    found = table(tmp_path, reorder)
    assert found.warnings == [] and found.scores[found.tokens.index(moved[0].encode())] == 0


def test_rules_of_a_token_that_stand_apart_are_said(tmp_path):
    def split(content: dict[str, Any]) -> None:
        merges = content["model"]["merges"]
        joined = ["".join(pair) for pair in merges]
        merges.append(merges.pop(next(i for i, text in enumerate(joined) if joined.count(text) > 1)))

    (warning,) = table(tmp_path, split).warnings
    assert "llama.cpp orders 1 of its merges otherwise: rare text may split otherwise" in warning


def test_pairs_without_a_rule_are_said(tmp_path):
    def drop(content: dict[str, Any]) -> None:
        merges = content["model"]["merges"]
        joined = ["".join(pair) for pair in merges]
        merges.pop(next(i for i, text in enumerate(joined) if joined.count(text) > 1))

    (warning,) = table(tmp_path, drop).warnings
    assert "llama.cpp orders 1 of its merges otherwise: rare text may split otherwise" in warning


def test_runs_of_spaces_may_stand_apart(tmp_path):
    """As in LLaMA's own file: the rules for runs of 2 to 16 spaces are ordered by the lengths of their halves."""

    def add_runs(content: dict[str, Any]) -> None:
        vocabulary, runs = content["model"]["vocab"], ["▁" * n for n in range(2, 5)]
        for run in runs:
            vocabulary.setdefault(run, 962 + len(run))
        pairs = [[run[:i], run[i:]] for run in runs for i in range(1, len(run))]
        content["model"]["merges"] += sorted(pairs, key=lambda pair: (-len(pair[0]), -len(pair[1])))

    assert table(tmp_path, add_runs).warnings == []


# --- refusals -------------------------------------------------------------------------------------------------------


def setting(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = to

    return change


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("model", to=None), "model: expected a dictionary, got NoneType"),
        (setting("model", "type", to="Unigram"), r"model\.type: expected 'BPE', .* got 'Unigram'; give the tokenizer"),
        (setting("model", "byte_fallback", to=False), r"model\.byte_fallback: expected True"),
        (setting("model", "ignore_merges", to=True), r"model\.ignore_merges: expected False"),
        (setting("model", "dropout", to=0.1), r"model\.dropout"),
        (setting("model", "end_of_word_suffix", to="</w>"), r"model\.end_of_word_suffix"),
        (setting("model", "vocab", to=[]), r"model\.vocab: expected tokens with their ids"),
        (setting("model", "vocab", "a", to="7"), r"model\.vocab: expected tokens with their ids"),
        (setting("model", "vocab", "a", to=7), r"model\.vocab: expected an id for each token, got one id for two"),
        (setting("model", "vocab", "x" * 1000, to=9999), r"model\.vocab: a token of 1000 characters"),
        (setting("model", "merges", to=[]), r"model\.merges: expected a list of pairs, got none"),
        (setting("model", "merges", to=["ab"]), r"model\.merges: expected pairs of tokens, got 'ab'"),
        (setting("model", "merges", to=[["qq", "zz"]]), r"model\.merges: expected pairs of tokens"),
        (setting("model", "merges", to=7), r"model\.merges: expected a list of pairs"),
        (setting("pre_tokenizer", to=BYTE_LEVEL), "expected LLaMA's steps before the merges, got ByteLevel"),
        (setting("pre_tokenizer", to=METASPACE), "expected LLaMA's steps before the merges, got Metaspace"),
        (setting("pre_tokenizer", to=None), "expected spaces to become '▁'"),
        (setting("pre_tokenizer", "prepend_scheme", to="sometimes"), "expected spaces to become '▁'"),
        (setting("model", "vocab", "\ud800", to=963), r"token '\\ud800': expected Unicode text, got half a character"),
        (setting("added_tokens", to=[{"id": "x"}]), "added_tokens: damaged entry"),
        (setting("added_tokens", to=[{"id": 964, "content": "\udfff"}]), "expected Unicode text"),
        (setting("added_tokens", to=["<image>"]), "added_tokens: damaged entry"),
    ],
)
def test_other_tokenizers_are_refused(tmp_path, change, message):
    with pytest.raises(ModelFormatError, match=message) as caught:
        table(tmp_path, change)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_vocabulary_without_a_byte_is_refused(tmp_path):
    with pytest.raises(ModelFormatError, match="expected a token for each byte, got none for <0x41>"):
        table(tmp_path, lambda content: content["model"]["vocab"].pop("<0x41>"))


def test_a_normalizer_that_llama_cpp_lacks_is_said(tmp_path):
    (warning,) = table(tmp_path, setting("normalizer", to={"type": "NFKC"})).warnings
    assert "normalizes with NFKC, llama.cpp does not" in warning
