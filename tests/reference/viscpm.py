"""VisCPM-Chat as a whole, in plain PyTorch: vocabulary, tokens, the request's tree, a question about a picture.

Written from the specification; the runtime's own tokenizer and protocol share no code with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from reference import beit3, cpm_bee
from reference.cpm_bee import Cells, Found, SearchOptions

Request = dict[str, "Request | str"]

BOS, EOS, UNK = 6, 7, 1


class Vocabulary:
    """The lines of vocab.txt; `</n>` is a newline and `</_>` a space."""

    def __init__(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8").split("\n")
        self.lines = lines[:-1] if lines[-1] == "" else lines
        spelled = {"</n>": "\n", "</_>": " "}
        self.ids = {spelled.get(line, line): i for i, line in enumerate(self.lines)}
        self.texts = {i: text for text, i in self.ids.items()}
        self.special = {text for text in self.ids if text.startswith("<") and text.endswith(">")}
        self.longest = max(map(len, self.ids))

    def __len__(self) -> int:
        return len(self.lines)

    def pieces(self, text: str) -> list[tuple[str, str]]:
        """Escaped text -> (kind, text): `special`, `known` or `unknown`."""
        found: list[tuple[str, str]] = []
        plain, i = "", 0
        while i < len(text):
            if text[i] != "<":
                plain, i = plain + text[i], i + 1
            elif text[i : i + 2] == "<<":
                plain, i = plain + "<", i + 2
            else:
                end = text.find(">", i + 2)
                if end < 0 or "<" in text[i + 1 : end]:
                    raise ValueError(f"a special token that does not end in {text!r}")
                found += [*self._plain(plain), ("special", text[i : end + 1])]
                plain, i = "", end + 1
        return found + self._plain(plain)

    def _plain(self, text: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        while text:
            lengths = range(min(self.longest, len(text)), 0, -1)
            piece = next((text[:n] for n in lengths if text[:n] in self.ids and text[:n] not in self.special), None)
            if piece is not None:
                found.append(("known", piece))
            elif found and found[-1][0] == "unknown":
                found[-1] = ("unknown", found[-1][1] + text[0])
            else:
                found.append(("unknown", text[0]))
            text = text[len(piece or "x") :]
        return found


@dataclass
class Prompt:
    """A request as the model gets it.

    Attributes:
        cells: everything but the answer.
        relations: [n_segments, n_segments] codes, query's segment first.
        image: where the placeholders of the picture stand (begin, end); None without one.
        answer_segment: number of the answer's node.
        columns: (base id, sub id) of unknown words with a sub id above 0.
        words: texts of unknown words, by the id under which an answer may say them: 1, or n_vocab + column.
    """

    cells: Cells
    relations: torch.Tensor
    image: tuple[int, int] | None
    answer_segment: int
    columns: list[tuple[int, int]] = field(default_factory=list)
    words: dict[int, str] = field(default_factory=dict)


@dataclass
class _Node:
    value: str
    path: tuple[int, ...]  # numbers of the nodes from the root to it, itself included
    is_image: bool = False
    is_answer: bool = False


def _nodes(request: Request) -> list[_Node]:
    """The tree in pre-order; the answer's text is its placeholder."""
    nodes = [_Node("<root>", (0,))]

    def add(value: Request | str, path: tuple[int, ...], key: str) -> None:
        if isinstance(value, str):
            text = "<ans_1>" if key == "<ans>" else value
            nodes.append(_Node(text, (*path, len(nodes)), key == "image", key == "<ans>"))
            return
        for name, child in value.items():
            nodes.append(_Node(name, (*path, len(nodes))))
            add(child, nodes[-1].path, key or name)

    add(request, (0,), "")
    return nodes


def relation(query: tuple[int, ...], key: tuple[int, ...]) -> int:
    """Code of two nodes, each given by its path from the root."""
    n_common = sum(a == b for a, b in zip(query, key))  # noqa: B905
    up, down = min(len(query) - n_common, 7), min(len(key) - n_common, 7)
    code = 8 * up + down
    return code + 1 if code else 0


def build_prompt(vocabulary: Vocabulary, request: Request) -> Prompt:
    """Lay a request out; texts in it are escaped already."""
    nodes = _nodes(request)
    relations = torch.tensor([[relation(query.path, key.path) for key in nodes] for query in nodes])
    cells, image, answer = Cells(), None, 0
    temporary: dict[str, int] = {}  # unknown words and specials, first come, first served
    sub_ids: dict[str, dict[str, int]] = {}  # base -> text -> sub id
    for number, node in enumerate(nodes):
        tokens = [(BOS, 0)]
        for kind, text in vocabulary.pieces(node.value):
            if kind == "known" or (kind == "special" and text in vocabulary.ids):
                tokens.append((vocabulary.ids[text], 0))
                continue
            temporary.setdefault(text, len(vocabulary) + len(temporary))
            base = "<unk>" if kind == "unknown" else "<" + text[1:-1].split("_", 1)[0] + ">"
            subs = sub_ids.setdefault(base, {})
            tokens.append((vocabulary.ids[base], subs.setdefault(text, len(subs))))
        if node.is_answer:
            answer = number
            continue
        tokens.append((EOS, 0))
        if node.is_image:
            image = (len(cells.ids) + 1, len(cells.ids) + len(tokens) - 1)
        for token, sub in tokens:
            cells.positions.append(len(cells.ids))
            cells.ids.append(token)
            cells.subs.append(sub)
            cells.segments.append(number)
            cells.context.append(1)
    prompt = Prompt(cells, relations, image, answer)
    for base, subs in sub_ids.items():
        for text, sub in subs.items() if base != "<ans>" else ():
            token = vocabulary.ids[base]
            if sub > 0:
                prompt.columns.append((token, sub))
                token = len(vocabulary) + len(prompt.columns) - 1
            prompt.words[token] = text
    return prompt


def chat_request(question: str, history: str = "", *, n_queries: int | None = None) -> Request:
    """The published chat's request; without `n_queries` the same without a picture."""
    image: Request = {} if n_queries is None else {"image": "<unk>" * n_queries}
    return {**image, "context": history, "question": question, "<ans>": ""}


class Model:
    """The model of one checkpoint folder, whose weights are in pytorch_model.bin."""

    def __init__(self, folder: Path) -> None:
        state = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
        self.state: cpm_bee.State = {name: values.float() for name, values in state.items()}
        self.vocabulary = Vocabulary(folder / "vocab.txt")

    def pixels(self, image: PIL.Image.Image, size: int) -> torch.Tensor:
        """RGB image -> [3, size, size]: stretched to the square, bicubic, -1 to 1."""
        square = image.convert("RGB").resize((size, size), PIL.Image.Resampling.BICUBIC)
        return (torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1).float() / 255 - 0.5) / 0.5

    def embed_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """[3, S, S] -> image embeddings [n_queries, n_embd]."""
        return beit3.image_embeddings(self.state, pixels)

    def hidden(
        self, prompt: Prompt, answer: list[tuple[int, int]], image: torch.Tensor | None = None, *, half: bool = True
    ) -> torch.Tensor:
        """Hidden states [n, n_embd] of a prompt with an answer's first tokens after it."""
        cells = prompt.cells.with_answer(answer, prompt.answer_segment)
        rows = cpm_bee.embed(self.state, cells.ids, cells.subs, half_angles=half)
        if image is not None and prompt.image is not None:
            rows[prompt.image[0] : prompt.image[1]] = image
        return cpm_bee.forward(self.state, rows, cells, prompt.relations)

    def step(self, prompt: Prompt, image: torch.Tensor | None) -> cpm_bee.Step:
        """What follows answers to this prompt."""

        def logits(answers: list[list[tuple[int, int]]]) -> torch.Tensor:
            last = torch.stack([self.hidden(prompt, answer, image)[-1] for answer in answers])
            return cpm_bee.logits(self.state, last, prompt.columns)

        return logits

    def search(self, prompt: Prompt, image: torch.Tensor | None, options: SearchOptions) -> Found:
        """The published way to answer."""
        step = self.step(prompt, image)
        return cpm_bee.beam_search(step, prompt.columns, len(self.vocabulary), options, unk_is_text=UNK in prompt.words)

    def greedy(self, prompt: Prompt, image: torch.Tensor | None, n_tokens: int) -> Found:
        """The likeliest token each time."""
        step = self.step(prompt, image)
        return cpm_bee.greedy(step, prompt.columns, len(self.vocabulary), n_tokens, unk_is_text=UNK in prompt.words)

    def text(self, tokens: list[int], words: dict[int, str]) -> str:
        """Tokens of an answer -> escaped text."""
        parts = []
        for token in tokens:
            text = words.get(token) or self.vocabulary.texts[token]
            is_plain = token not in words and text not in self.vocabulary.special
            parts.append(text.replace("<", "<<") if is_plain else text)
        return "".join(parts)
