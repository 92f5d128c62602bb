"""Does a draft model save time from beginning to end, in real answers in ten languages?

    python benchmarks/drafting.py [--threads 2] [--questions 4]

PALO-Nano is the only model at hand that was trained, and it is too small for guesses to pay. So two copies are made as
heavy as models that are not: layers that add nothing (their last matrices are zero) beside its own, until a step reads
about 1 GiB, and 0.25 GiB for the draft model. Both answer as Nano does, but for rounding, so nearly every draft is
right; a third copy, whose attention is zero, knows nothing of the question and drafts at its best from the last token.
Nano's sentences are all alike, so counts alone guess most of them; "alone" is without them, as in a text unlike others.
How often MobilePALO would be right about PALO-7B this cannot show: `draft_break_even.py` shows how often it must be.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gguf
import numpy as np
from numpy.typing import NDArray

from nano.scoring import held_out_questions
from palo_cpp import Palo
from palo_cpp.bench.noise import describe_machine
from palo_cpp.bench.random_blocks import random_tensor
from palo_cpp.decoding.speculation.counts import Guesser
from palo_cpp.languages.detection import count_words
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.models.files import find_model

MIB_MAIN, MIB_DRAFT = 1024, 256
_N_FF = 16384  # of all layers; wider ones would make a prompt's activations large


@dataclass
class Sums:
    """Of one way in one language."""

    n_words: float = 0.0
    decode_s: float = 0.0
    n_generated: int = 0
    n_drafted: int = 0


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--questions", type=int, default=4, help="in each language")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = heavy(Path(folder) / "model", MIB_MAIN)
        draft = heavy(Path(folder) / "draft", MIB_DRAFT)
        blind = heavy(Path(folder) / "blind", MIB_DRAFT, is_blind=True)
        ways = {
            "no guesses": load(model, options.threads, speculation=False),
            "counts": load(model, options.threads),
            "drafts": load(model, options.threads, draft=draft),
            "drafts alone": load(model, options.threads, draft=draft),
            "blind drafts alone": load(model, options.threads, draft=blind),
        }
        print("| language | words per second, no guesses | " + " | ".join(list(ways)[1:]) + " |")
        print("|---" * (1 + len(ways)) + "|")
        for code in LANGUAGES:
            print(row(code, measure(ways, code, options.questions)), flush=True)


def load(model: Path, n_threads: int, **options: Any) -> Palo:
    """The model, with our kernels whatever the start-up check finds."""
    return Palo(model, n_threads=n_threads, backend="palo", **options)


def heavy(folder: Path, mib: int, *, is_blind: bool = False) -> Path:
    """A copy of Nano's files, as heavy as asked."""
    files = find_model("nano")
    folder.mkdir()
    (folder / files.mmproj.path.name).symlink_to(files.mmproj.path)
    reader = gguf.GGUFReader(files.text.path)
    writer = gguf.GGUFWriter(folder / files.text.path.name, "llama")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    n_own = int(reader.fields["llama.block_count"].contents())
    n_embd = int(reader.fields["llama.embedding_length"].contents())
    n_layer = round(mib * 2**20 / (3 * _N_FF * n_embd * 34 / 32))
    changed = {"llama.block_count": n_layer, "llama.feed_forward_length": _N_FF}
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kinds = [*field.types, None][:2]
            writer.add_key_value(key, changed.get(key, field.contents()), kinds[0], sub_type=kinds[1])
    for name, tensor in tensors.items():
        if not name.startswith("blk."):
            writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)
    for layer in range(n_layer):
        for name in [name for name in tensors if name.startswith("blk.0.")]:
            own = tensors[name.replace("blk.0.", f"blk.{layer % n_own}.")]
            data = _widened(name, np.array(own.data), is_added=layer >= n_own, is_blind=is_blind)
            writer.add_tensor(name.replace("blk.0.", f"blk.{layer}."), data, raw_dtype=own.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


def _widened(name: str, data: NDArray[np.uint8], *, is_added: bool, is_blind: bool) -> NDArray[np.uint8]:
    """One matrix of a layer, [n_out, bytes of n_in], as wide as `_N_FF` asks; what it adds is multiplied with zeros."""
    if "attn_v" in name and is_blind:
        return np.zeros_like(data)
    if "attn_output" in name and is_added:
        return np.zeros_like(data)
    if "ffn_down" in name:
        wide = np.zeros((len(data), _N_FF // 32 * 34), np.uint8)
        if not is_added:
            wide[:, : data.shape[1]] = data
        return wide
    if "ffn_gate" in name or "ffn_up" in name:
        n_new, n_in = _N_FF - len(data), data.shape[1] // 34 * 32
        more = random_tensor(name, (n_new, n_in), "Q8_0", std=n_in**-0.5)
        return np.concatenate([data, more.reshape(n_new, -1)])
    return data


def measure(ways: dict[str, Palo], code: str, n_questions: int) -> dict[str, Sums]:
    """Each question in all ways in turn; who begins alternates."""
    sums: dict[str, Sums] = defaultdict(Sums)
    order = list(ways)
    for question in held_out_questions(n_questions, [code]):
        image, texts = question.picture.render(), set()
        for name in order:
            # Descriptions, for they are the longest answers; two at a time, so that the second is about a known image.
            with ways[name].chat(image, lang=code) as chat, counts_silenced(name.endswith("alone")):
                answers = [chat.ask(), chat.ask()]
            texts.add(tuple(answer.token_ids for answer in answers))
            for answer in answers:
                each, timings = sums[name], answer.timings
                each.n_words += count_words(answer.text)
                each.decode_s += timings.decode_s
                each.n_generated += timings.n_generated
                each.n_drafted += timings.n_drafted
        assert len(texts) == 1, "a draft changed an answer"
        order.append(order.pop(0))
    return sums


def row(code: str, sums: dict[str, Sums]) -> str:
    """One line of the table."""
    speed = {name: each.n_words / each.decode_s for name, each in sums.items()}
    asked = {name: each.n_drafted / each.n_generated for name, each in sums.items()}
    plain = speed.pop("no guesses")
    times = [
        f"{each / plain:.2f}" + (f", asked {asked[name]:.0%}" if asked[name] else "") for name, each in speed.items()
    ]
    return f"| {code} | {plain:.1f} | " + " | ".join(times) + " |"


@contextmanager
def counts_silenced(is_wanted: bool) -> Iterator[None]:
    """As in a text that is like none before."""
    if is_wanted:
        with patch.object(Guesser, "guess", lambda _: None):
            yield
    else:
        yield


if __name__ == "__main__":
    main()
