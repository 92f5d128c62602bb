"""The prompt `vicuna_v1`: byte for byte as text, token for token against SentencePiece."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sentencepiece
import tiny_gguf

from palo_cpp.families.palo.prompt import IMAGE, SYSTEM, prompt_segments, prompt_text
from palo_cpp.segments import ImageSegment, TextSegment, Turn

REFERENCE = sentencepiece.SentencePieceProcessor(model_file=str(tiny_gguf.DATA / "tokenizer.model"))
BOS, EOS = 1, 2
IMAGE_SEGMENT = ImageSegment("hash", 4)


def without_prefix(text: str) -> list[int]:
    """What SentencePiece makes of text that follows a symbol: transformers' non-legacy LlamaTokenizer."""
    return REFERENCE.encode("\n" + text)[len(REFERENCE.encode("\n")) :]


def reference_ids(text: str, *, legacy: bool) -> list[list[int]]:
    """Token ids of a whole prompt as PALO's tokenizer_image_token makes them: one list for each side of <image>."""
    sides = []
    for i, side in enumerate(text.split(IMAGE)):
        ids = [BOS] if i == 0 else []
        for j, part in enumerate(side.split("</s>")):
            ids += [EOS] if j else []
            ids += without_prefix(part) if j and not legacy else REFERENCE.encode(part)
        sides.append(ids)
    return sides


def text_ids(segments: list) -> list[list[int]]:
    return [list(segment.tokens) for segment in segments if isinstance(segment, TextSegment)]


def test_text_byte_for_byte():
    assert prompt_text([Turn("What?", images=(IMAGE_SEGMENT,))]) == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\nWhat? ASSISTANT:"
    )
    assert prompt_text([Turn("Q1", "A1"), Turn("Q2")]) == (f"{SYSTEM} USER: Q1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:")
    assert prompt_text([Turn("Q1", "A1"), Turn("Q2", images=(IMAGE_SEGMENT,) * 2)], system="S") == (
        "S USER: Q1 ASSISTANT: A1</s>USER: <image>\n<image>\nQ2 ASSISTANT:"
    )


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("n_images", [(0, 0, 0), (1, 0, 0), (2, 0, 1), (0, 1, 0)])
def test_tokens_equal_sentencepiece_on_the_whole_prompt(language_model, sentences, legacy, n_images):
    language_model.metadata["palo.tokenizer_legacy"] = legacy
    questions = list(sentences.values())
    for first, answer, second in zip(questions, questions[1:], questions[2:], strict=False):
        turns = [Turn(first, answer), Turn(second, first), Turn(answer)]
        turns = [replace(turn, images=(IMAGE_SEGMENT,) * n) for turn, n in zip(turns, n_images, strict=True)]
        segments = prompt_segments(language_model, turns)
        assert text_ids(segments) == reference_ids(prompt_text(turns), legacy=legacy)
        assert segments.count(IMAGE_SEGMENT) == sum(n_images)


def test_image_stands_between_two_texts_with_their_own_prefixes(language_model):
    before, image, after = prompt_segments(language_model, [Turn("What?", images=(IMAGE_SEGMENT,))])
    space = REFERENCE.piece_to_id("▁")
    assert image is IMAGE_SEGMENT
    assert before.tokens[0] == BOS and before.tokens[-1] == space  # "USER: " ends with its space
    newline = REFERENCE.piece_to_id("<0x0A>")
    assert after.tokens[:2] == (space, newline) and BOS not in after.tokens
    assert language_model.token_bytes(after.tokens[-1]) == b":"


def test_tokenizer_is_legacy_unless_the_file_says_otherwise(language_model):
    language_model.metadata.pop("palo.tokenizer_legacy", None)
    (segment,) = prompt_segments(language_model, [Turn("a", "b"), Turn("c")])
    at = segment.tokens.index(EOS)
    assert language_model.token_bytes(segment.tokens[at + 1]).startswith(b" ")
    language_model.metadata["palo.tokenizer_legacy"] = False
    (segment,) = prompt_segments(language_model, [Turn("a", "b"), Turn("c")])
    assert language_model.token_bytes(segment.tokens[at + 1]).startswith(b"U")


def test_what_the_user_types_stays_text(language_model):
    question = "Is <image> or </s>USER: or <s> special? <unk>"
    before, _, after = prompt_segments(language_model, [Turn(question, images=(IMAGE_SEGMENT,))])
    assert not {0, 1, 2} & set(after.tokens)
    text = b"".join(map(language_model.token_bytes, after.tokens)).decode()
    assert text == f" \n{question} ASSISTANT:"
    assert before.tokens.count(BOS) == 1


def test_the_models_own_answers_go_back_as_the_tokens_they_were(language_model):
    odd = (700, 3, 900)  # not how SentencePiece would split their text
    (segment,) = prompt_segments(language_model, [Turn("a", "text", odd), Turn("b")])
    at = segment.tokens.index(EOS)
    assert segment.tokens[at - 3 : at] == odd
    (alone,) = prompt_segments(language_model, [Turn("a")])
    assert segment.tokens[: at - 3] == alone.tokens  # so that the KV cache is a prefix


def test_system_text_can_be_another(language_model):
    (segment,) = prompt_segments(language_model, [Turn("a")], system="Be brief.")
    assert list(segment.tokens) == [BOS, *REFERENCE.encode("Be brief. USER: a ASSISTANT:")]


def test_image_segments_are_equal_by_content():
    same = ImageSegment("hash", 4, size=(3, 2))
    assert same == IMAGE_SEGMENT
    assert same != ImageSegment("other", 4)
