"""The services of a story, started when its first test runs and ended after its last."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import compose
from tests.support.flights_story import backfilled, first_version, second_version  # noqa: F401
from tests.support.required import skip_or_fail
from tests.support.server_story import first_release, second_release  # noqa: F401
from tests.support.stack import _stack, stack  # noqa: F401


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[compose.Server]:
    """The compose file's services, all healthy, with nothing live yet."""
    if reason := compose.missing():
        skip_or_fail("compose", reason)
    with compose.running(tmp_path_factory.mktemp("server") / "project") as running:
        yield running
