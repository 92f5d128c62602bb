"""Make tokenizer_json.json, and tests/data/tokenizer.json, with transformers and tokenizers.

pip install '.[goldens]' protobuf && python tests/goldens/make_tokenizer_goldens.py
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import tokenizers
import transformers

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parent / "support")]

from checkpoints import DATA  # noqa: E402  (after the path is set)
from multilingual_text import ANSWERS, UDHR  # noqa: E402
from tokenizer_files import read_tokenizer_json  # noqa: E402

# None begins with a space: there the kinds of tokenizer.json differ among each other.
HARD = [
    "",
    "a  two   spaces    and     more ",
    "\n\nline\r\n\ttab",
    "e\u0301 é ﬁ ２ nbsp\u00a0end",
    "👩‍👩‍👧‍👦 👍🏽 🇮🇳 ❤️",
    "क्\u200dष র\u200d্যাব می\u200cخواهم",
    "0123 ٠١٢٣ ०१२३ 2.50",
    "𝒳𠀀\U0010ffff \ufffd",
    "a" * 50 + "হ" * 21 + " " * 40 + "b",
    "<0x41> is text, and so is < s>",
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(Path(folder) / "tokenizer")
    save_ids()


def save_tokenizer(folder: Path) -> None:
    """tests/data/tokenizer.model as transformers 5 saves it."""
    folder.mkdir()
    shutil.copyfile(DATA / "tokenizer.model", folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "legacy": False}))
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder / "saved")
    content = json.loads((folder / "saved" / "tokenizer.json").read_text(encoding="utf-8"))
    (DATA / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def save_ids() -> None:
    """Ids of texts in ten languages; all kinds of tokenizer.json must agree on them."""
    texts = [*UDHR.values(), *(text for answers in ANSWERS.values() for text in answers), *HARD]
    ids = [encode("first", text) for text in texts]
    for kind in ("always", "normalizer"):
        assert [encode(kind, text) for text in texts] == ids, kind
    lines = ",\n".join(json.dumps([text, row], ensure_ascii=False) for text, row in zip(texts, ids, strict=True))
    (FOLDER / "tokenizer_json.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{len(texts)} texts, {sum(map(len, ids))} ids, tokenizers {tokenizers.__version__}")


def encode(kind: str, text: str) -> list[int]:
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(read_tokenizer_json(kind)))
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


if __name__ == "__main__":
    main()
