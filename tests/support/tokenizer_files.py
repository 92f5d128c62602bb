"""`tokenizer.json` as several versions of transformers write it, from the one in tests/data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from checkpoints import DATA

IMAGE_TOKEN, PAD_TOKEN = 960, 961  # the rows after the 960 pieces


def read_tokenizer_json(kind: str = "first") -> dict[str, Any]:
    """tests/data/tokenizer.json with the two tokens that LLaVA adds.

    Args:
        kind: where a space is put before a text: "first", as the file has it; "always", as transformers 5 writes it for
            `legacy`; "normalizer", the same as transformers 4 wrote it.
    """
    content: dict[str, Any] = json.loads((DATA / "tokenizer.json").read_text(encoding="utf-8"))
    template = content["added_tokens"][0]
    for token_id, text in ((IMAGE_TOKEN, "<image>"), (PAD_TOKEN, "<pad>")):
        content["added_tokens"].append(template | {"id": token_id, "content": text})
    if kind == "always":
        content["pre_tokenizer"]["prepend_scheme"] = "always"
    elif kind == "normalizer":
        content["pre_tokenizer"] = None
        replace_spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        content["normalizer"] = {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace_spaces],
        }
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
        content["model"]["unk_token"] = "<unk>"
    return content


def write_tokenizer_json(folder: Path, kind: str = "first") -> None:
    """Write tokenizer.json, and tokenizer_config.json as transformers 5 does."""
    (folder / "tokenizer.json").write_text(json.dumps(read_tokenizer_json(kind)), encoding="utf-8")
    config = {"backend": "tokenizers", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config |= {"extra_special_tokens": ["<s>", "</s>"], "tokenizer_class": "LlamaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
