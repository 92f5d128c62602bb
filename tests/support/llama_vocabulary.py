"""LLaMA's own 32000 pieces (llama.cpp's vocabulary tests), where they lie beside the checkout, and our small ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import llama_cpp

from palo_cpp.ggml.llama_library import llama_library
from palo_cpp.llm.vocabulary import Vocabulary

# They are no part of the project: elsewhere than where it is developed there are none to check.
VECTORS = sorted(Path(__file__).parents[3].glob("shared/data/*-vocab.inp.txt"))


def load_vocabulary(path: Path) -> tuple[Vocabulary, Callable[[], None]]:
    """The tokenizer of a GGUF file without weights, and what frees it."""
    library = llama_library()
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = library.llama_model_load_from_file(str(path).encode(), parameters)
    assert model
    return Vocabulary(library, model, path.name, threading.Lock()), lambda: library.llama_model_free(model)
