"""What the benches' tests share."""

import pytest


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder for the random models of one module."""
    return tmp_path_factory.mktemp("cache")
