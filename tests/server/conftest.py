"""A real server in a thread of its own, on the demo, and requests over real sockets."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette", reason="the extra `server` is not installed")
pytest.importorskip("uvicorn", reason="the extra `server` is not installed")


@pytest.fixture(scope="session")
def nano():
    """PALO-Nano, loaded once for all servers."""
    from palo_cpp import Palo

    with Palo("nano", n_threads=1, n_parallel=4) as palo:
        yield palo


@pytest.fixture(scope="session")
def server(nano):
    """A server with the default settings."""
    from running_server import RunningServer

    with RunningServer(nano) as running:
        yield running


@pytest.fixture(scope="session")
def red_circle():
    """The file of a drawing that the demo knows: 300 x 200, so that it is not square."""
    from running_server import drawing

    return drawing("red", "circle")


@pytest.fixture(scope="session")
def blue_square():
    """Another one."""
    from running_server import drawing

    return drawing("blue", "square")
