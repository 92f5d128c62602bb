"""The hub of the tests."""

from __future__ import annotations

from hub_fixtures import cache, content, hub, no_long_waits

__all__ = ["cache", "content", "hub", "no_long_waits"]
