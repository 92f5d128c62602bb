"""Names in a message."""

from __future__ import annotations


def listed(names: list[str], limit: int = 20) -> str:
    """Names with commas; of more than `limit` only the first, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
