"""`tokenizer.json`, all that transformers 5 saves of a LLaMA tokenizer -> the token table of GGUF.

The `tokenizers` library joins the pair of symbols whose rule comes first; llama.cpp's SentencePiece tokenizer the pair
whose joined token has the highest score, whatever pair it is. Both do the same where all rules that give one token
stand together, and where every pair that would give a token has a rule: so it is in a list of rules that was made from
a SentencePiece model. A token's score is then minus its place among the tokens, in the order of their first rules.

One difference stays: a `Metaspace` pre-tokenizer puts no space before a text that begins with one.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palo_cpp.errors import ModelFormatError

from .json_file import Config, read_json, read_json_if_any
from .token_table import BYTE, CONTROL, NORMAL, UNKNOWN, TokenRows, TokenTable

_SPACE = "\u2581"  # stands for a space inside tokens
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_MAX_CHARACTERS = 256  # of a token; LLaMA's longest has 48, and the check of the rules takes each in two at every place
_SPECIAL_TOKENS = {"bos": "<s>", "eos": "</s>", "unk": "<unk>"}  # LLaMA's, where no file names others

Rule = tuple[str, str]


def read_tokenizer_json(path: Path, n_vocab: int) -> TokenTable:
    """Read a LLaMA tokenizer.

    Args:
        path: tokenizer.json; beside it may lie tokenizer_config.json, which names the special tokens.
        n_vocab: rows of the embedding matrix; rows beyond the vocabulary become unused tokens.

    Raises:
        ModelFormatError: damaged, or a kind of tokenizer that llama.cpp's LLaMA tokenizer does not know.
    """
    config = read_json(path)
    model = _model(config)
    prefix = _prefix(config)
    added = _added_tokens(config)
    ids = _ids(path, model.get("vocab"))
    named = _special_tokens(path.parent)
    rows = TokenRows(path, n_vocab)
    special = {token.text for token in added if token.is_special}
    kinds = {text: _kind(text, named["unk"], special) for text in ids}
    trained = [text for text, kind in kinds.items() if kind == NORMAL]
    rules = _rules(path, model.get("merges"), ids)
    scores = _scores(rules, trained)
    for text, token_id in ids.items():
        rows.put(token_id, text, scores.get(text, 0.0), kinds[text])
    for token in added:
        rows.put_added(token.id, token.text, special=token.is_special)
    ids |= {token.text: token.id for token in added}
    return TokenTable(
        tokens=rows.tokens,
        scores=rows.scores,
        types=rows.types,
        **{f"{name}_id": rows.checked_id(name, ids.get(text)) for name, text in named.items()},
        add_space_prefix=prefix != "never",
        legacy=prefix == "always",
        warnings=[*rows.warnings, *_warnings(path, config, rules, trained)],
    )


@dataclass(frozen=True)
class _AddedToken:
    id: Any
    text: str
    is_special: bool


def _added_tokens(config: Config) -> list[_AddedToken]:
    tokens, entries = [], config.get("added_tokens") or []
    for entry in entries if isinstance(entries, list) else [entries]:
        match entry:
            case {"id": int(token_id), "content": str(text), **rest}:
                tokens.append(_AddedToken(token_id, text, bool(rest.get("special"))))
            case _:
                raise ModelFormatError(f"{config.path}: added_tokens: damaged entry {str(entry)[:80]}")
    return tokens


def _model(config: Config) -> dict[str, Any]:
    """The BPE model, checked to be one as LLaMA's."""
    model = config.get("model")
    if not isinstance(model, dict):
        raise ModelFormatError(f"{config.path}: model: expected a dictionary, got {type(model).__name__}")
    expected: dict[str, tuple[Any, ...]] = {
        "type": ("BPE", None),
        "byte_fallback": (True,),
        "dropout": (None, 0),
        "ignore_merges": (False, None),
        "continuing_subword_prefix": (None, ""),
        "end_of_word_suffix": (None, ""),
    }
    for key, allowed in expected.items():
        if (value := model.get(key)) not in allowed:
            raise ModelFormatError(
                f"{config.path}: model.{key}: expected {allowed[0]!r}, as LLaMA's tokenizer has it, got {value!r}; "
                "give the tokenizer.model of the base model"
            )
    return model


def _prefix(config: Config) -> str:
    """Where a space is put before a text: `always` (after a special token too), `first` or `never`.

    Either a normalizer puts it there and replaces spaces, or, since transformers 4.40, a pre-tokenizer.
    """
    steps = _steps(config.get("normalizer"), "normalizers") + _steps(config.get("pre_tokenizer"), "pretokenizers")
    prefix, replaces_spaces = "never", False
    for step in steps:
        match step:
            case {"type": "Prepend", "prepend": "\u2581"}:
                prefix = "always"
            case {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}:
                replaces_spaces = True
            case {"type": "Metaspace", "replacement": "\u2581", "split": False, "prepend_scheme": str(scheme)}:
                prefix, replaces_spaces = scheme, True
            case {"type": "NFC" | "NFD" | "NFKC" | "NFKD" | "Precompiled" | "Strip"}:
                pass  # a warning says it
            case _:
                raise ModelFormatError(f"{config.path}: expected LLaMA's steps before the merges, got {_brief(step)}")
    if not replaces_spaces or prefix not in ("always", "first", "never"):
        raise ModelFormatError(f"{config.path}: expected spaces to become {_SPACE!r}, as in LLaMA's tokenizer")
    return prefix


def _steps(step: Any, parts: str) -> list[Any]:
    """A normalizer or pre-tokenizer as a flat list."""
    if step is None:
        return []
    if isinstance(step, dict) and step.get("type") == "Sequence" and isinstance(step.get(parts), list):
        return list(step[parts])
    return [step]


def _brief(step: Any) -> str:
    return str(step.get("type") if isinstance(step, dict) else step)[:80]


def _ids(path: Path, vocabulary: Any) -> dict[str, int]:
    if not isinstance(vocabulary, dict) or not all(type(token_id) is int for token_id in vocabulary.values()):
        raise ModelFormatError(f"{path}: model.vocab: expected tokens with their ids")
    if len(set(vocabulary.values())) != len(vocabulary):
        raise ModelFormatError(f"{path}: model.vocab: expected an id for each token, got one id for two")
    if longest := next((text for text in vocabulary if len(text) > _MAX_CHARACTERS), None):
        raise ModelFormatError(f"{path}: model.vocab: a token of {len(longest)} characters ({longest[:20]!r}...)")
    if lacking := [f"<0x{i:02X}>" for i in range(256) if f"<0x{i:02X}>" not in vocabulary]:
        raise ModelFormatError(f"{path}: model.vocab: expected a token for each byte, got none for {lacking[0]}")
    return dict(vocabulary)


def _kind(text: str, unknown: str, special: set[str]) -> int:
    if text == unknown:
        return UNKNOWN
    if text in special:
        return CONTROL
    return BYTE if _BYTE_TOKEN.fullmatch(text) else NORMAL


def _rules(path: Path, merges: Any, ids: dict[str, int]) -> list[Rule]:
    """The pairs to join, in their order; each is a list of two, and before transformers 4.45 a string with a space."""
    rules: list[Rule] = []
    for merge in merges if isinstance(merges, list) else []:
        match merge.split(" ") if isinstance(merge, str) else merge:
            case [str(left), str(right)] if left in ids and right in ids and left + right in ids:
                rules.append((left, right))
            case _:
                raise ModelFormatError(f"{path}: model.merges: expected pairs of tokens, got {str(merge)[:80]!r}")
    if not rules:
        raise ModelFormatError(f"{path}: model.merges: expected a list of pairs, got none")
    return rules


def _scores(rules: list[Rule], trained: list[str]) -> dict[str, float]:
    """Joined tokens in the order of their first rules, then single characters; SentencePiece's own numbers."""
    joined = dict.fromkeys(left + right for left, right in rules)
    rest = [text for text in trained if text not in joined]
    return {text: -float(place) for place, text in enumerate([*joined, *rest])}


def _special_tokens(folder: Path) -> dict[str, str]:
    """Texts of the special tokens, as tokenizer_config.json and special_tokens_map.json name them."""
    configs = [read_json_if_any(folder / name) for name in ("tokenizer_config.json", "special_tokens_map.json")]
    named = dict(_SPECIAL_TOKENS)
    for name in named:
        for config in configs:
            value = config.get(f"{name}_token") if config else None
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                named[name] = text
                break
    return named


def _warnings(path: Path, config: Config, rules: list[Rule], trained: list[str]) -> list[str]:
    """What llama.cpp's tokenizer would do differently."""
    found = []
    for step in _steps(config.get("normalizer"), "normalizers"):
        if _brief(step) not in ("Prepend", "Replace"):
            found.append(
                f"{path}: normalizes with {_brief(step)}, llama.cpp does not: unusual text may split otherwise"
            )
    if n := _n_different_rules(rules, trained):
        found.append(f"{path}: llama.cpp orders {n} of its merges otherwise: rare text may split otherwise")
    return found


def _n_different_rules(rules: list[Rule], trained: list[str]) -> int:
    """How many pairs would be joined without a rule, or at another time than their rule says.

    The rules for runs of one character (LLaMA's runs of 2 to 16 spaces) do not stand together, but it makes no
    difference: such a run grows from its left end by one at a time, whatever is joined first.
    """
    known, tokens = set(rules), set(trained)
    pairs = ((text[:i], text[i:]) for text in trained for i in range(1, len(text)))
    n_without_rule = sum(pair not in known and pair[0] in tokens and pair[1] in tokens for pair in pairs)
    joined = [left + right for left, right in rules if len(set(left + right)) > 1]
    places = {text: place for place, text in enumerate(dict.fromkeys(joined))}
    n_out_of_order = sum(places[later] < places[earlier] for earlier, later in itertools.pairwise(joined))
    return n_without_rule + n_out_of_order
