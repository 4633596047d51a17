"""A replay sends a candidate what was asked before, exactly as it was asked or not at all, and the judge sees what it answers."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.testclient import TestClient

from harness.ledgers import ledger_of
from harness.project import customers
from pipeline.errors import RolloutError
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.policy.canary import judge
from pipeline.rollout import replay
from pipeline.rollout.replay import Replay, replayed_log
from pipeline.rollout.routing.route import RoutedSlot
from pipeline.rollout.slots import predictions_folder
from pipeline.serving import log_files
from pipeline.serving.app import App
from pipeline.serving.identity import Identity
from pipeline.serving.metrics import PREDICTIONS, Metrics
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema, PredictionLog
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Column, Reader, Schema
from pipeline.serving.settings import Settings
from pipeline.settings.rollout import Rollout

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
LIVE_SINCE = NOW - timedelta(days=10)
LIMITS = {"error_rate": 0.1, "refusal_rate": 0.1, "p99_ms": None, "churn": 0.3}
SETTINGS = Rollout(limits=LIMITS)
GOLDEN = {"x-golden-key": "drawn"}
OLD, NEW = RoutedSlot("blue", "1", ""), RoutedSlot("green", "2", "")


@pytest.fixture(scope="module")
def runtime(churn_package):
    return Runtime.load(churn_package)


@pytest.fixture
def logged(churn_artifacts, runtime, tmp_path):
    """Writes requests of so many rows into the prediction log of version 1, which is live, and returns a context."""
    ledger = ledger_of(tmp_path)
    ledger.append(RolloutEnded(version="1"), "churn", at=LIVE_SINCE.isoformat())
    registry = SimpleNamespace(
        package_folder=lambda *_: churn_artifacts.package, reference_file=lambda *_: churn_artifacts.reference
    )
    context = SimpleNamespace(home=tmp_path, ledger=ledger, registry=registry, clock=lambda: NOW)
    folder = predictions_folder(tmp_path, "churn")
    rows = customers()[["spend", "calls", "plan"]].astype(object)
    records = rows.where(rows.notna(), None).to_dict("records")
    parts = iter(range(100))

    def write(sizes, version="1", days=1.0, personal=None, golden=False, said=None):
        answered, start = [], 0
        for number, size in enumerate(sizes):
            parsed = runtime.reader.of_records(records[start : start + size])
            start += size
            at = (NOW - timedelta(days=days)).timestamp() + number
            predictions = runtime.predict(parsed) if said is None else np.full(size, said)
            answered.append(AnsweredRequest(f"r{number}", at, parsed, predictions, golden))
        folder.mkdir(parents=True, exist_ok=True)
        part = next(parts)
        schema = LogSchema(runtime.reader, version, "blue", personal, bytes(32))
        log_files.write(folder / log_files.file_name(f"blue-v{version}-7.1", part, part), schema.table(answered))
        return context

    return write


def taken(context, **settings):
    return replayed_log(context, "churn", OLD, NEW, SETTINGS.model_copy(update=settings))


def sent(log, runtime, metrics=None, prediction_log=None):
    """The evidence of a whole replay to a slot with that model."""
    settings = Settings(golden_key=hashlib.sha256(b"drawn").hexdigest())
    app = App(runtime, prediction_log, Identity("churn", "2", "green"), settings, metrics or Metrics({}))
    with Replay(log, 250, TestClient(app, headers=GOLDEN, raise_server_exceptions=False)) as replaying:
        while not replaying.done:
            seen = replaying.look()
    return replaying, seen


def test_the_candidate_gets_each_row_exactly_as_it_was_asked(logged, runtime, tmp_path):
    """An equal candidate gives the very predictions that were logged, missing values included, and is promoted."""
    log = taken(logged([3] * 40 + [1] * 100))
    assert (len(log.requests), log.rows) == (140, 220)
    metrics, written = Metrics({}), tmp_path / "written"
    slot = PredictionLog(written, "green", "2", LogSchema(runtime.reader, "2", "green"), lambda _: None)
    replaying, seen = sent(log, runtime, metrics, slot)
    slot.close()
    assert (seen.failed.hits, seen.refused.hits, seen.failed.of, seen.sides.of) == (0, 0, 140, 220)
    assert (seen.sides.up, seen.sides.down) == (0, 0)
    assert all(np.array_equal(a.numbers, b.numbers, equal_nan=True) for a, b in (r.rows for r in log.requests))
    assert any(np.isnan(request.rows[1].numbers).any() for request in log.requests)
    assert judge(seen, SETTINGS.limits).verdict == "promote"
    assert replaying.rows == 220


def test_replayed_requests_are_no_traffic_of_the_slot(logged, runtime, tmp_path):
    """A slot counts no replayed request, and its log marks each of them as golden."""
    import pyarrow.parquet as pq

    log, metrics = taken(logged([1] * 5)), Metrics({})
    slot = PredictionLog(tmp_path / "written", "green", "2", LogSchema(runtime.reader, "2", "green"), lambda _: None)
    sent(log, runtime, metrics, slot)
    slot.close()
    assert metrics.total(PREDICTIONS) == 0
    rows = [row for path in log_files.listed(tmp_path / "written").files for row in pq.read_table(path).to_pylist()]
    assert [row["golden"] for row in rows] == [True] * 5


class Otherwise:
    """A model that answers as `predict` says."""

    def __init__(self, runtime, predict):
        self._runtime, self.predict = runtime, predict

    def __getattr__(self, name):
        return getattr(self._runtime, name)


def failing(rows):
    raise RuntimeError("no answer")


@pytest.mark.parametrize("figure", ["error_rate", "churn"])
def test_a_bad_candidate_is_aborted_by_logged_requests_alone(logged, runtime, figure):
    """A candidate that fails, or predicts the opposite, is aborted without a live request."""
    predict = failing if figure == "error_rate" else lambda rows: 1 - runtime.predict(rows)
    _, seen = sent(taken(logged([1] * 200)), Otherwise(runtime, predict))
    judged = judge(seen, SETTINGS.limits)
    assert judged.verdict == "abort"
    assert figure in {look.figure for look in judged.looks if look.verdict == "abort"}


def test_what_the_candidate_refuses_is_its_own_fault(logged, runtime):
    """A request that was answered before and is refused by the candidate counts against it, with no figure of the champion."""
    log = taken(logged([1] * 60))
    names = [name for name in runtime.reader.numbers if name != "calls"]
    for request in log.requests:
        request.columns[:] = [*names, "renamed", *runtime.reader.texts]
    _, seen = sent(log, runtime)
    assert (seen.refused.hits, seen.refused.of) == (60, 60)
    judged = judge(seen, SETTINGS.limits)
    assert judged.verdict == "abort"
    assert "100.00% of 60 requests were refused" in judged.reason


def test_few_logged_requests_promote_nothing(logged, runtime):
    """With fewer logged requests than min_requests the judge holds."""
    _, seen = sent(taken(logged([1] * 40)), runtime)
    judged = judge(seen, SETTINGS.limits)
    assert (judged.verdict, judged.reason) == ("hold", "40 requests, at least 100 required")


@pytest.mark.parametrize(
    ("personal", "told"),
    [
        ({"plan": "hash"}, "they have plan as a pseudonym, because it is personal"),
        ({"calls": "hash"}, "they have calls in another kind, or as a pseudonym"),
        ({"calls": "drop"}, "they lack calls, which was not asked for, or is personal and dropped"),
        ({"plan": "drop"}, "they lack plan"),
    ],
)
def test_personal_rows_are_left_out_and_counted(logged, personal, told):
    """Rows whose personal features are hidden in the log are never sent; where there are no others the replay is refused."""
    context = logged([2] * 30, personal=personal)
    with pytest.raises(RolloutError) as refused:
        taken(context)
    assert "no logged request can be replayed: 0 logged requests of the last 30 d, 0 rows; 60 rows left out" in str(
        refused.value
    )
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    log = taken(logged([1] * 7, days=2))
    assert (len(log.requests), sum(log.left_out.values())) == (7, 60)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (Column("note", "text"), ""),
        (Column("note", "text", groups=512), "lack the words of note in 512 groups"),
        (
            Column("mail", "text", groups=64),
            "lack mail characters, which was not asked for, or is personal and dropped",
        ),
    ],
)
def test_words_in_other_groups_are_left_out_with_the_number_of_groups(text, why):
    """A log has the words of a text in the groups of the version that answered, and a replay says which the candidate takes."""
    own, candidate = (SimpleNamespace(reader=Reader(Schema((c,)))) for c in (Column("note", "text", groups=64), text))
    logged = {name: np.zeros(2) for name in own.reader.numbers}
    assert replay._whys(logged, 2, SimpleNamespace(champion=own, candidate=candidate)) == [why, why]


def test_times_of_another_zone_are_not_replayed(logged, runtime, monkeypatch):
    """Where the candidate reads times in another zone, the log has other moments than it would have been asked."""
    monkeypatch.setattr(replay.Pair, "unlike_times", "a time without a zone is another one")
    with pytest.raises(RolloutError, match="cannot be replayed .a time without a zone is another one"):
        taken(logged([1] * 5))


def test_a_personal_key_hinders_no_replay(logged):
    """A hashed key is no feature: the rows are replayed."""
    assert len(taken(logged([1] * 5, personal={"customer": "hash"})).requests) == 5


def test_the_newest_rows_of_the_time_are_taken(logged):
    """Rows before replay_days, golden ones, and more than replay_rows are left alone."""
    logged([1] * 9, days=40)
    logged([1] * 9, golden=True)
    logged([4] * 5, days=3)
    context = logged([2] * 5, days=2)
    assert taken(context).rows == 30
    newest = taken(context, replay_rows=12)
    assert [len(request.data) for request in newest.requests] == [2, 2, 2, 2, 2]
    assert taken(context, replay_days=2.5).rows == 10
    with pytest.raises(RolloutError, match="no logged request can be replayed"):
        taken(context, replay_days=0.5)


def test_what_another_version_answered_is_asked_of_the_champion(logged, runtime):
    """Where another version answered, or another package of the champion's number, the champion's package says what it answers."""
    logged([1] * 5, version="0", days=3, said=0.999)
    logged([1] * 5, version="1", days=11, said=0.999)
    log = taken(logged([1] * 5, days=1, said=0.111))
    assert [request.champion[0] == 0.111 for request in log.requests] == [True] * 5 + [False] * 10
    assert 0.999 not in [request.champion[0] for request in log.requests]


def test_too_large_as_json_is_no_evidence(logged, runtime):
    """A request that is too large in the form of a replay is left out and counted, not held against the candidate."""
    log = taken(logged([1] * 3 + [50]))
    settings = Settings(golden_key=hashlib.sha256(b"drawn").hexdigest(), max_body_bytes=500)
    app = App(runtime, None, Identity("churn", "2", "green"), settings)
    with Replay(log, None, TestClient(app, headers=GOLDEN)) as replaying:
        seen = replaying.look()
    assert (seen.failed.of, seen.refused.hits, seen.slow) == (3, 0, None)
    assert dict(replaying.left_out) == {"are too large as JSON": 50}


def test_slow_answers_count(logged, runtime, monkeypatch):
    """Answers that take longer than p99_ms count as slow."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(replay.time, "perf_counter", lambda: next(ticks))
    _, seen = sent(taken(logged([1] * 4)), runtime)
    assert (seen.slow.hits, seen.slow.of) == (4, 4)
