"""How many tokens a word of each language takes: the constants in `palo_cpp.families.palo.published`.

    pip install Django==5.1
    python benchmarks/tokens_per_word.py VOCABULARY.gguf

VOCABULARY is a GGUF file with LLaMA's vocabulary. The texts are the messages of Django's catalogues, placeholders taken
out, of more than 28 characters (Chinese, Japanese: 14); the English ones are those that the French translate. Beside
them stands article 1 of the Declaration of Human Rights. In scripts without spaces two characters count as a word.
"""

from __future__ import annotations

import argparse
import gettext
import importlib.util
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from palo_cpp.languages.detection import count_words
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.languages.text_samples import ARTICLE_1

_PLACEHOLDER = re.compile(r"%\([^)]*\)[a-z]|%[a-z]|\{[^}]*\}|<[^>]*>")
_FOLDERS = {"zh": "zh_Hans", "en": "fr"}
_CONTEXT = "\x04"  # gettext puts a context before it


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vocabulary", type=Path)
    n_tokens = token_counter(parser.parse_args().vocabulary)
    print("| language | messages | words | tokens per word | article 1 |")
    print("|---" * 5 + "|")
    for code in LANGUAGES:
        texts = messages(code)
        n_words = sum(map(count_words, texts))
        figures = (len(texts), round(n_words), ratio(texts, n_tokens), ratio([ARTICLE_1[code]], n_tokens))
        print(f"| {code} | " + " | ".join(f"{figure:.4g}" for figure in figures) + " |")


def token_counter(path: Path) -> Callable[[str], int]:
    """Counts a text's tokens."""
    from llama_cpp import Llama

    vocabulary = Llama(str(path), vocab_only=True, verbose=False)
    return lambda text: len(vocabulary.tokenize(text.encode(), add_bos=False))


def messages(code: str) -> list[str]:
    """The messages of one language, each once."""
    spec = importlib.util.find_spec("django")
    if spec is None or spec.origin is None:
        raise SystemExit("tokens_per_word.py needs Django's catalogues: pip install Django==5.1")
    shortest = 14 if code in ("zh", "ja") else 28
    found = set()
    for path in Path(spec.origin).parent.glob(f"**/locale/{_FOLDERS.get(code, code)}/LC_MESSAGES/django.mo"):
        with path.open("rb") as file:
            catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # no public way to list it
        for key, translated in catalogue.items():
            source = key[0] if isinstance(key, tuple) else key
            text = source.split(_CONTEXT)[-1] if code == "en" else translated
            found.add(" ".join(_PLACEHOLDER.sub(" ", text if source else "").split()))
    return sorted(text for text in found if len(text) > shortest)


def ratio(texts: Iterable[str], n_tokens: Callable[[str], int]) -> float:
    """Tokens per word over all texts."""
    texts = list(texts)
    return sum(map(n_tokens, texts)) / sum(map(count_words, texts))


if __name__ == "__main__":
    main()
