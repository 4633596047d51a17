"""How tests are shared out when pytest-xdist runs them side by side (`--dist loadscope`): one by one, a story as a whole."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

# Tests that share one set of services. pytest-xdist begins with what has most tests, so with these.
STORIES = {
    "tests/story/test_airflow_runs.py": "services",
    "tests/story/test_backfill.py": "services",
    "tests/story/test_server.py": "server",
}


class Stories(LoadScopeScheduling):
    """Any worker takes any test, but the tests of a story go to one of them, in their order.

    pytest-xdist has `--dist loadgroup` for that; with pytest 9 it does not see the groups (xdist 3.8.0).
    """

    def _split_scope(self, nodeid: str) -> str:
        return STORIES.get(nodeid.partition("::")[0], nodeid)


def scheduler(config: Any, log: Any) -> Stories | None:
    """For pytest_xdist_make_scheduler."""
    return Stories(config, log) if config.getvalue("dist") == "loadscope" else None
