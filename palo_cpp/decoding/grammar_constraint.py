"""Keeps an answer within a grammar, through llama.cpp's own grammar sampler."""

from __future__ import annotations

import ctypes
import tempfile
import weakref
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from palo_cpp.errors import ArgumentError, ModelFormatError
from palo_cpp.ggml.llama_library import llama_library
from palo_cpp.llm.token_table import HasTokenTable, TokenTable


class GrammarVocabulary:
    """A vocabulary as llama.cpp's grammars need it, loaded from the file without its weights.

    The model's own would be freed with the model, also while another thread is within a grammar.

    Args:
        path: the GGUF file.
    """

    def __init__(self, path: Path) -> None:
        llama = llama_library()
        parameters = llama.llama_model_default_params()
        parameters.vocab_only = True
        parameters.load_mode = llama.LLAMA_LOAD_MODE_NONE  # not mapped: the file may go
        model = llama.llama_model_load_from_file(str(path).encode(), parameters)
        if not model:
            raise ModelFormatError(f"{path.name}: expected a vocabulary that llama.cpp can read, got none")
        weakref.finalize(self, llama.llama_model_free, model)
        self.handle: Any = llama.llama_model_get_vocab(model)
        self.n_tokens: int = llama.llama_vocab_n_tokens(self.handle)


_VOCABULARIES: WeakKeyDictionary[TokenTable, GrammarVocabulary] = WeakKeyDictionary()


def grammar_vocabulary(model: HasTokenTable) -> GrammarVocabulary:
    """The vocabulary of a model, loaded when it is first needed: from its file where that is one of llama.cpp's."""
    path, table = getattr(model, "path", None), model.token_table
    if table not in _VOCABULARIES:
        _VOCABULARIES[table] = _vocabulary_of(table) if path is None else GrammarVocabulary(Path(path))
    return _VOCABULARIES[table]


def _vocabulary_of(table: TokenTable) -> GrammarVocabulary:
    """A vocabulary that llama.cpp cannot read, written as one that it can: for a grammar only the texts count."""
    from gguf import GGUFWriter, TokenType

    with tempfile.TemporaryDirectory(prefix="palo_cpp-") as folder:
        path = Path(folder) / "vocabulary.gguf"
        writer = GGUFWriter(path, "llama")
        writer.add_tokenizer_model("llama")
        writer.add_token_list([_spelled(i, piece) for i, piece in enumerate(table.pieces)])
        writer.add_token_scores([0.0] * len(table.pieces))
        writer.add_token_types([TokenType.NORMAL] * len(table.pieces))
        writer.add_eos_token_id(int(table.ends_generation.argmax()))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return GrammarVocabulary(path)


def _spelled(token: int, piece: bytes) -> str:
    """A token's text; one that llama.cpp would read as another becomes one that no grammar of JSON allows."""
    text = piece.decode("utf-8", "replace")
    return text if text and "\u2581" not in text else f"\x01{token}"


class GrammarConstraint:
    """The rule for one answer; a `TokenConstraint`.

    Args:
        vocabulary: of the model whose tokens come.
        grammar: in GBNF, its first rule is `root`.
    """

    def __init__(self, vocabulary: GrammarVocabulary, grammar: str) -> None:
        self._vocabulary = vocabulary  # must outlive the sampler
        self._llama = llama_library()
        try:
            text = grammar.encode()
        except UnicodeEncodeError:
            raise ArgumentError("json_schema: expected Unicode, got half of a surrogate pair") from None
        self._sampler = self._llama.llama_sampler_init_grammar(vocabulary.handle, text, b"root")
        if not self._sampler:
            raise ArgumentError(
                "json_schema: expected a schema that llama.cpp's grammars can follow, got one that begins with itself "
                "or is too large; simplify the schema"
            )
        weakref.finalize(self, self._llama.llama_sampler_free, self._sampler)
        self._allowed: NDArray[np.bool_] | None = None
        self._is_lost = False

    def allowed(self) -> NDArray[np.bool_] | None:
        """Tokens that may come next [n_vocab] bool; None once a token came that the grammar does not know.

        Raises:
            ArgumentError: a vocabulary without single bytes has no token for what must come.
        """
        if self._allowed is None and not self._is_lost:
            self._allowed = self._ask()
        return self._allowed

    def accept(self, token: int) -> None:
        """Go along with a token."""
        # llama.cpp throws, and so ends the process, where a token comes that its grammar does not allow.
        allowed = self.allowed()
        if allowed is not None and allowed[token]:
            self._llama.llama_sampler_accept(self._sampler, token)
        else:
            self._is_lost = True
        self._allowed = None

    def _ask(self) -> NDArray[np.bool_]:
        n_tokens = self._vocabulary.n_tokens
        candidates = np.zeros(n_tokens, dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        candidates["id"] = np.arange(n_tokens)
        data = candidates.ctypes.data_as(ctypes.POINTER(self._llama.llama_token_data))
        array = self._llama.llama_token_data_array(data=data, size=n_tokens, selected=-1, sorted=False)
        self._llama.llama_sampler_apply(self._sampler, ctypes.byref(array))
        allowed: NDArray[np.bool_] = np.isfinite(candidates["logit"])
        if not allowed.any():
            raise ArgumentError(
                "json_schema: expected texts that the model's vocabulary can spell, got one with other characters; "
                "use names and values in letters that the model knows"
            )
        return allowed
