"""The hub of the tests."""

from __future__ import annotations

from hub_fixtures import cache, hub, no_long_waits

__all__ = ["cache", "hub", "no_long_waits"]
