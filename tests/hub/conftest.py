"""The hub of the tests, and what is on it."""

from __future__ import annotations

from hub_fixtures import cache, content, hub, no_long_waits, repository

__all__ = ["cache", "content", "hub", "no_long_waits", "repository"]
