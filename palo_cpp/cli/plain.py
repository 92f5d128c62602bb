"""Plain text for terminals without control sequences, and for people who listen to a screen reader."""

from __future__ import annotations

import os
from collections.abc import Mapping


def is_plain(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to write nothing but lines of text: no line that changes, no colours, no table, no marks of direction."""
    return environ.get("TERM") == "dumb" or bool(environ.get("PALO_CPP_PLAIN"))
