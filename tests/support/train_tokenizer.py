"""Train tests/data/tokenizer.model, the tiny stand-in for LLaMA's tokenizer, from tests/data/corpus.txt.

The settings are those of LLaMA's own model, read from its trainer and normalizer specs: BPE with byte fallback,
identity normalization, a dummy prefix space, digits apart, no removal of spaces, and unk, bos, eos = 0, 1, 2.

    python tests/support/train_tokenizer.py
"""

from pathlib import Path

import sentencepiece

DATA = Path(__file__).parents[1] / "data"

# Small enough that its embedding rows do not rule a tiny checkpoint's size, large enough that all ten languages have
# pieces of several characters, single characters and raw bytes.
N_PIECES = 960


def train(corpus: Path, prefix: Path) -> None:
    """Train `corpus` into `prefix`.model."""
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(prefix),
        model_type="bpe",
        vocab_size=N_PIECES,
        # Rare characters (most of the Chinese ones) are left to the byte pieces, as in LLaMA's vocabulary.
        character_coverage=0.985,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=1,
    )
    prefix.with_suffix(".vocab").unlink()


if __name__ == "__main__":
    train(DATA / "corpus.txt", DATA / "tokenizer")
