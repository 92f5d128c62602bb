"""The README.md of a repository with GGUF files, as hubs show it: what the files are, need, can and may."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palo_cpp.families.palo.family import NANO_NAME
from palo_cpp.families.published import License, PublishedModel
from palo_cpp.families.registry import family_of
from palo_cpp.ggml.gguf_header import GgufHeader, read_header
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.models.file_choice import outtype_of
from palo_cpp.models.memory import estimate_memory
from palo_cpp.models.names import published_as

N_CTX = 2048  # tokens of context in the memory that the card names

NOTICE = "Notice"
_MIB = 1 << 20
_WEAK_POINTS = 30.0
_MARK = re.compile(r"<!-- palo-cpp package [0-9a-f]{64} -->\n\Z")
_LICENSE_ID = re.compile(r"[A-Za-z0-9.+-]{1,40}")
_REPOSITORY = re.compile(r"https://[^/\s]+/([\w-][\w.-]*/[\w-][\w.-]*)/?", re.ASCII)
_TAGS = ("gguf", "palo-cpp", "llama.cpp", "multilingual", "cpu")
_LLAMA_2 = "llama2"
# Name of the terms -> how hubs spell them in a card's head.
_IDS = {"Apache License 2.0": "apache-2.0", "Llama 2 Community License Agreement": _LLAMA_2, "MIT License": "mit"}
_META = (
    "Llama 2 is licensed under the LLAMA 2 Community License, Copyright (c) Meta Platforms, Inc. All Rights Reserved."
)
_NANO_LICENSE = License(NANO_NAME, "Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0")


@dataclass(frozen=True)
class CardFile:
    """A file of the repository.

    Attributes:
        name: its name.
        outtype: type of its weights, in capitals.
        n_bytes: its size.
        memory_bytes: to run a language model with an mmproj file and 2048 tokens of context; None of an mmproj file.
    """

    name: str
    outtype: str
    n_bytes: int
    memory_bytes: int | None


@dataclass(frozen=True)
class CardFacts:
    """What the card says.

    Attributes:
        name: of the model.
        repository: a name for the repository, without its organization.
        languages: codes of those that the model answers in.
        files: language models first.
        source_url: where the checkpoint is, as the files have it; "" where they do not say.
        license_id: as the files have it; "" or `unknown` where they do not say.
        published: what is known of the checkpoint.
        command: that made the files.
        versions: name of a program -> version.
        notice: what a user must know before anything else; "" where there is nothing.
    """

    name: str
    repository: str
    languages: Sequence[str]
    files: Sequence[CardFile]
    source_url: str
    license_id: str
    published: PublishedModel | None
    command: str
    versions: Mapping[str, str]
    notice: str = ""

    @property
    def base(self) -> str | None:
        """Repository of the checkpoint."""
        if self.published:
            return self.published.checkpoint
        found = _REPOSITORY.fullmatch(self.source_url)
        return found[1] if found else None

    @property
    def licenses(self) -> tuple[License, ...]:
        """Terms of all that the model is made of, as far as they are known."""
        if self.published:
            return self.published.licenses
        return (_NANO_LICENSE,) if self.name == NANO_NAME else ()

    @property
    def head_license(self) -> str:
        """For the card's head: the terms that ask the most, Llama's before the model's own."""
        ids = [_IDS[each.name] for each in self.licenses if each.name in _IDS]
        if ids:
            return _LLAMA_2 if _LLAMA_2 in ids else ids[0]
        return self.license_id if _LICENSE_ID.fullmatch(self.license_id) else "unknown"

    @property
    def is_under_llama_2(self) -> bool:
        """Whether whoever publishes it must give Meta's notice and a copy of its agreement along."""
        return self.head_license == _LLAMA_2


def facts_of(folder: Path, name: str, command: str, versions: Mapping[str, str]) -> CardFacts:
    """Collect what the card says from the headers of a folder's files.

    Args:
        folder: with the GGUF files of one model.
        name: of the model.
        command: that made the files.
        versions: name of a program -> version.

    Raises:
        ModelFormatError: a file is damaged.
    """
    headers = [read_header(path) for path in sorted(folder.glob("*.gguf"))]
    texts = sorted((each for each in headers if not each.is_mmproj), key=lambda each: each.size_bytes)
    mmprojs = [each for each in headers if each.is_mmproj]
    text, family = texts[0], family_of(texts[0])
    source_url = str(text.metadata.get("general.source.url", ""))
    found = _REPOSITORY.fullmatch(source_url)
    return CardFacts(
        name=name,
        repository=folder.resolve().name,
        languages=family.languages(text),
        files=[*(_card_file(each, mmprojs) for each in texts), *(_card_file(each, []) for each in mmprojs)],
        source_url=source_url,
        license_id=str(text.metadata.get("general.license", "")),
        published=published_as(found[1]) if found else None,
        command=command,
        versions=versions,
        notice=family.notice(text) or "",
    )


def _card_file(header: GgufHeader, mmprojs: Sequence[GgufHeader]) -> CardFile:
    memory_bytes = None
    if not header.is_mmproj:
        sizes = family_of(header).sizes(header)
        memory_bytes = estimate_memory(header, mmprojs[0] if mmprojs else None, sizes, n_ctx=N_CTX).total
    return CardFile(header.path.name, outtype_of(header.path.name), header.size_bytes, memory_bytes)


def card_text(facts: CardFacts) -> str:
    """The README.md."""
    parts = (_head(facts), _introduction(facts), _languages(facts), _files(facts), _making(facts), _licenses(facts))
    text = "\n".join(parts)
    return f"{text}\n<!-- palo-cpp package {_digest(text)} -->\n"


def is_ours(text: str) -> bool:
    """Whether a README.md is as `card_text` wrote it: nobody has added to it since."""
    mark = _MARK.search(text)
    return mark is not None and _digest(text[: mark.start() - 1]) in mark[0]


def notice_text(facts: CardFacts) -> str:
    """The file that the Llama 2 agreement (1.b.iii) asks for, with the other parts' terms."""
    lines = [f"{each.part}: {each.name}, {each.url}" for each in facts.licenses]
    return "\n".join([*([_META, ""] if facts.is_under_llama_2 else []), *lines, ""])


def _size(n_bytes: int) -> str:
    n_mib = n_bytes / _MIB
    return f"{n_mib / 1024:.2f} GiB" if n_mib >= 1024 else f"{n_mib:.1f} MiB"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _head(facts: CardFacts) -> str:
    """What hubs read, in YAML; all values are words of known forms."""
    lines = ["---", f"license: {facts.head_license}"]
    if facts.base:
        lines += [f"base_model: {facts.base}", "base_model_relation: quantized"]
    lines += ["language:", *(f"- {code!r}" for code in facts.languages)]  # without quotes, `no` would be false
    lines += ["pipeline_tag: image-text-to-text", "library_name: gguf", "tags:"]
    return "\n".join([*lines, *(f"- {tag}" for tag in _TAGS), "---", ""])


def _introduction(facts: CardFacts) -> str:
    text = facts.files[0]
    model = f"ORG/{facts.repository}" + (f":{text.outtype}" if text.outtype else "")
    language = "hi" if "hi" in facts.languages else "en"
    notice = f"**{facts.notice}**\n" if facts.notice else ""
    return f"""# {facts.name} in GGUF

{facts.name}{f", made from {facts.base}," if facts.base else ""} answers questions about an image, on an ordinary CPU.
{notice}These files run with palo_cpp and with llama.cpp.
`ORG` is who published this repository:

```sh
palo-cpp chat photo.jpg -m {model} --lang {language}
```
"""


def _languages(facts: CardFacts) -> str:
    scores = facts.published.scores if facts.published else {}
    lines = ["## Languages", "", "| language | | code |" + (" score |" if scores else "")]
    lines.append("|---|---|---|" + ("---:|" if scores else ""))
    for code in facts.languages:
        language = LANGUAGES.get(code)
        names = f"| {language.english_name} | {language.own_name} | {code} |" if language else f"| | | {code} |"
        lines.append(names + (f" {scores[code]:.1f} |" if code in scores else " |" if scores else ""))
    return "\n".join([*lines, "", *_about_scores(facts), ""])


def _about_scores(facts: CardFacts) -> list[str]:
    if facts.published is None:
        return ["No scores of this model are known to palo_cpp."]
    evaluation, scores = facts.published.evaluation, facts.published.scores
    lines = [
        f"Scores: points of 100, {facts.published.score():.1f} on average; {evaluation.benchmark}; the judge was "
        f"{evaluation.judge} ({evaluation.source}).",
        "They are its authors', of the checkpoint before it was quantized; these files were not scored.",
    ]
    weak = [LANGUAGES[code].english_name for code, score in scores.items() if score < _WEAK_POINTS]
    if weak:
        lines.append(f"It is weak in {', '.join(weak)}: larger models of the family answer better there.")
    return lines


def _files(facts: CardFacts) -> str:
    rows = []
    for file in facts.files:
        memory = _size(file.memory_bytes) if file.memory_bytes is not None else ""
        rows.append(f"| {file.name} | {file.outtype} | {_size(file.n_bytes)} | {memory} |")
    table = "\n".join(rows)
    return f"""## Files

| file | type | size | memory to run |
|---|---|---:|---:|
{table}

A model is one language model and one `mmproj` file, which holds vision tower and projector.
The memory is that of both in palo_cpp, with an image and {N_CTX} tokens of context.
`sha256sum --check SHA256SUMS` says whether the files are whole.
"""


def _making(facts: CardFacts) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    source = f"The weights are those of {facts.source_url}.\n" if _REPOSITORY.fullmatch(facts.source_url) else ""
    return f"""## How the files were made

```sh
{facts.command}
```

Made with {versions}.
{source}Nothing was trained; no importance matrix was used.
"""


def _licenses(facts: CardFacts) -> str:
    lines = ["## Licences", ""]
    lines += [f"- {each.part}: [{each.name}]({each.url})" for each in facts.licenses]
    if not facts.licenses:
        known = facts.head_license != "unknown"
        lines.append(
            f"The checkpoint says: {facts.head_license}."
            if known
            else "The checkpoint does not say under which terms it may be used; ask whoever published it."
        )
    if facts.is_under_llama_2:
        lines += ["", f"Whoever passes these files on gives `{NOTICE}` and a copy of Meta's agreement along with them."]
    return "\n".join([*lines, ""])
