"""A real server for the tests of `download`."""

from collections.abc import Iterator

import pytest

from tests import servers


@pytest.fixture
def server() -> Iterator[servers.Server]:
    """A server without any file: answer by `server.answers[PATH] = servers.whole(...)`."""
    with servers.running() as running:
        yield running
