"""How tests are shared out when pytest-xdist runs them side by side (`--dist loadscope`): one by one, a group as a whole, the longest
first."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Files whose tests share what takes long to start: the services of a story, servers, a warehouse, a Postgres.
GROUPS = {
    "tests/story/test_airflow_runs.py": "services",
    "tests/story/test_backfill.py": "services",
    "tests/story/test_call_back_button.py": "services",
    "tests/story/test_server.py": "server",
    # Tables that are read as the same rows are judged once.
    "tests/component/test_awkward_tables.py": "awkward tables",
    "tests/component/test_dags.py": "dags",
    "tests/component/test_edge.py": "edge",
    "tests/component/test_flights_weeks.py": "flights",
    "tests/component/test_http_connection.py": "http connection",
    "tests/component/test_large_numbers.py": "large numbers",
    "tests/component/test_outsiders.py": "outsiders",
    "tests/component/test_portfolio.py": "dags",
    "tests/component/test_scales.py": "scales",
    "tests/component/test_times_and_texts.py": "times and texts",
    # A Postgres, or an S3.
    "tests/component/test_dvc_remote.py": "stores",
    "tests/component/test_postgres.py": "stores",
    "tests/component/test_s3_source.py": "stores",
    "tests/component/test_scoring_killed.py": "stores",
    "tests/component/test_server_files.py": "stores",
    "tests/component/test_serving_process.py": "serving process",
    # Each imports Evidently, seconds of processor time in each process.
    "tests/unit/test_drift.py": "evidently",
    "tests/unit/test_drift_report.py": "evidently",
    "tests/unit/test_file_drift.py": "evidently",
    "tests/unit/test_measures.py": "evidently",
}
# Of the engines' tests one without load, so that the versions of them all are made while other workers have something to do.
FIRST = "tests/engine/test_batch_scoring_live.py"
# Of the engines' tests.
LONG = ("tests/engine/test_killed.py", "tests/engine/test_strategies.py")
# Of the unit tests the files with seconds of work, the longest first, so that none is begun when the other workers end.
LONG_UNIT = tuple(
    f"tests/unit/test_{name}.py"
    for name in (
        *("drift", "measures", "drift_report", "file_drift", "init", "encodings", "estimators", "tasks"),
        *("planted_defects", "backtest", "retrain_decision", "window_losses", "canary", "scoring"),
        *("booster_objectives", "alarms", "rollups", "log_profiles", "partition_profiles", "arrival", "fast_reading"),
        *("training", "text_sql", "audit", "settings_agree", "label_maturity", "weights", "calibration", "flights"),
    )
)


def longest_first(items: list[pytest.Item]) -> None:
    """Stories, groups, the other components, then the engines' tests, whose slots under load need the processors that stories take. What
    is left when the first worker has nothing to do any more is short."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    file = _file_of(item.nodeid)
    if file in LONG_UNIT:
        return 5 + LONG_UNIT.index(file)
    tier = file.split("/")[1]
    if file == FIRST:
        return 1
    if tier == "engine":
        return 3 if file in LONG else 4
    return {"story": 0, "component": 1 if file in GROUPS else 2}.get(tier, 5 + len(LONG_UNIT))


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class Groups(LoadScopeScheduling):
    """Any worker takes any test, but the tests of a group, or of a file of unit tests, go to one of them, in their order.

    pytest-xdist has `--dist loadgroup` for that; with pytest 9 it does not see the groups (xdist 3.8.0).
    """

    def _split_scope(self, nodeid: str) -> str:
        file = _file_of(nodeid)
        return GROUPS.get(file, file if file.startswith("tests/unit/") else nodeid)


def scheduler(config: Any, log: Any) -> Groups | None:
    """For pytest_xdist_make_scheduler."""
    return Groups(config, log) if config.getvalue("dist") == "loadscope" else None
