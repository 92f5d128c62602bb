"""No value in the JSON files of a checkpoint ends in a traceback."""

from __future__ import annotations

import json
from typing import Any

import pytest
from native_checkpoint import write_native_checkpoint
from palo_cpp.convert import convert

from palo_cpp.errors import PaloError


@pytest.mark.parametrize("name", ["config.json", "processor_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_no_value_ends_in_a_traceback(tmp_path, name):
    """Each value of each file, replaced by values of all types: a conversion, or one sentence."""
    source = write_native_checkpoint(tmp_path / "llava")
    content = json.loads((source / name).read_text(encoding="utf-8"))
    if name == "tokenizer.json":
        content = {key: content[key] for key in ("added_tokens", "normalizer", "pre_tokenizer", "model")}
        content["model"]["merges"] = content["model"]["merges"][:3]
    n_refused = 0
    for path in places(content):
        for value in (None, True, 7, -1.5, "x", "\ud800", [], [7], {}, {"type": "x"}):
            (source / name).write_text(json.dumps(replaced(content, path, value)), encoding="utf-8")
            try:
                convert(source, tmp_path / "out", dry_run=True)
            except PaloError as error:
                assert "\n" not in str(error)
                n_refused += 1
    assert n_refused > 0


def places(content: Any) -> list[tuple[Any, ...]]:
    """Ways to every value; of long lists and dictionaries to the first few only."""
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    few = list(entries)[:30] if len(content if isinstance(content, dict | list) else ()) < 100 else list(entries)[:2]
    return [path for key, value in few for path in [(key,), *((key, *rest) for rest in places(value))]]


def replaced(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[path[0]] = replaced(content[path[0]], path[1:], value)
    return copy
