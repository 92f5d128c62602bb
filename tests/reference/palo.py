"""One conversation with the whole model: prompt, image embeddings spliced in, greedy decoding."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import PIL.Image
import sentencepiece
import torch

from reference import clip_vit, llama, projectors
from reference.checkpoint import Checkpoint
from reference.preprocess import preprocess
from reference.text import can_become_text, is_text

# conv_vicuna_v1 of mbzuai-oryx/PALO, palo/conversation.py
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
BOS, EOS = 1, 2


@dataclass(frozen=True)
class Reply:
    """A greedy answer.

    Attributes:
        token_ids: Without the `</s>` that ended it, if one did, and without an unfinished character at the end.
        margins: By how much the best logit led the second, for each decoded token, `</s>` and what was unfinished
            included; of tokens after which the bytes can still become text.
        finish_reason: "stop" or "length".
        first_logits: The logits [n_vocab] that the first token was chosen from.
    """

    token_ids: list[int]
    margins: list[float]
    finish_reason: str
    first_logits: torch.Tensor


class Model:
    """The model of one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, legacy: bool = False) -> None:
        self.checkpoint, self.legacy = checkpoint, legacy
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(checkpoint.folder / "tokenizer.model"))

    def embed_image(self, image: PIL.Image.Image) -> torch.Tensor:
        """RGB image -> image embeddings [n_image_tokens, n_embd]."""
        config, vision = self.checkpoint.config, self.checkpoint.vision_config
        mode = "pad" if config["image_aspect_ratio"] == "pad" else "crop"
        pixels = preprocess(image, vision["image_size"], mode)
        hidden = clip_vit.hidden_states(self.checkpoint.state, vision, pixels, config["mm_vision_select_layer"])
        return projectors.project(self.checkpoint.state, config["mm_projector_type"], hidden)

    def first_prompt(self, question: str) -> tuple[list[int], list[int]]:
        """Token ids before and after the image; both parts are tokenized alone, only the first keeps its BOS."""
        before = [BOS, *self.tokenizer.encode(f"{SYSTEM} USER: ")]
        return before, self.tokenizer.encode(f"\n{question} ASSISTANT:")

    def text_prompt(self, question: str) -> list[int]:
        """Token ids of a first question without an image."""
        return [BOS, *self.tokenizer.encode(f"{SYSTEM} USER: {question} ASSISTANT:")]

    def next_prompt(self, question: str) -> list[int]:
        """Token ids from the `</s>` that ends the last answer to the next `ASSISTANT:`.

        Transformers' LlamaTokenizer puts a dummy prefix before text that follows a special token if it is `legacy`.
        """
        text = f"USER: {question} ASSISTANT:"
        return [EOS, *(self.tokenizer.encode(text) if self.legacy else self._encode_continued(text))]

    def decode(self, embeddings: torch.Tensor, n_tokens: int) -> Reply:
        """Decode greedily after `embeddings` [n, n_embd]."""
        token_ids: list[int] = []
        margins: list[float] = []
        first_logits = None
        while len(token_ids) < n_tokens:
            logits = llama.forward(self.checkpoint.state, self.checkpoint.config, embeddings)
            first_logits = logits if first_logits is None else first_logits
            token, second = self._two_best(logits, token_ids)
            margins.append(float(logits[token] - logits[second]))
            if token == EOS:
                return Reply(token_ids, margins, "stop", first_logits)
            token_ids.append(token)
            embeddings = torch.cat([embeddings, llama.embed_tokens(self.checkpoint.state, [token])])
        assert first_logits is not None
        while not is_text(self._bytes(token_ids)):
            token_ids.pop()
        return Reply(token_ids, margins, "length", first_logits)

    def _two_best(self, logits: torch.Tensor, token_ids: list[int]) -> list[int]:
        """The likeliest two of the tokens that keep the answer UTF-8."""
        data = self._bytes(token_ids)
        keeps = (
            token
            for token in logits.argsort(descending=True, stable=True).tolist()
            if (is_text(data) if token == EOS else can_become_text(data + self._bytes([token])))
        )
        return list(islice(keeps, 2))

    def _bytes(self, tokens: list[int]) -> bytes:
        """What tokens spell; control tokens nothing."""
        return b"".join(map(self._piece, tokens))

    def _piece(self, token: int) -> bytes:
        piece = self.tokenizer.id_to_piece(token)
        if self.tokenizer.is_byte(token):
            return bytes([int(piece[3:5], 16)])  # <0xE0>
        is_silent = self.tokenizer.is_control(token) or self.tokenizer.is_unknown(token)
        return b"" if is_silent else piece.replace("▁", " ").encode()

    def embed_tokens(self, tokens: list[int]) -> torch.Tensor:
        """Token ids -> embeddings [n, n_embd]."""
        return llama.embed_tokens(self.checkpoint.state, tokens)

    def _encode_continued(self, text: str) -> list[int]:
        """Without the dummy prefix: behind a piece that cannot merge with what follows, which is then cut off."""
        newline = self.tokenizer.encode("\n")
        return self.tokenizer.encode(f"\n{text}")[len(newline) :]
