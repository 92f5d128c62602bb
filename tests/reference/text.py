"""Which bytes are text, tried out: what greedy decoding goes by beside the logits."""

from __future__ import annotations

import itertools

# Enough ends of characters that each beginning of a character in UTF-8 is completed by one of them.
_ENDS = [
    b"",
    *(bytes([byte]) for byte in range(0x80, 0xC0)),
    *(bytes(end) for end in itertools.product((0x80, 0x90, 0xA0, 0xBE), (0x80, 0xBE))),
    *(bytes((byte, 0x80, 0xBE)) for byte in (0x80, 0x90, 0xA0)),
]


def is_text(data: bytes) -> bool:
    """Whether bytes are UTF-8 without U+FFFD, the character that stands for broken ones."""
    try:
        return "\ufffd" not in data.decode()
    except UnicodeDecodeError:
        return False


def can_become_text(data: bytes) -> bool:
    """Whether some bytes after `data` make it text."""
    return any(is_text(data + end) for end in _ENDS)
