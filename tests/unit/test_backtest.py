"""The loss matrix of a model's past, on the customers of the small project: labels come two days after their rows."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from harness.project import CHURN, customers, write_params
from pipeline.cli.main import main
from pipeline.context import Context
from pipeline.data import known_at_once, snapshot
from pipeline.errors import DataError, PerennialError
from pipeline.ledger.decision_events import Backtested
from pipeline.ledger.store import Ledger
from pipeline.pages.backtest import backtest_page
from pipeline.policy.retraining import rules
from pipeline.policy.retraining.base import History
from pipeline.policy.retraining.comparison import Saved, compare
from pipeline.policy.retraining.held import Spans
from pipeline.runs.backtest import matrix, parts, training_windows
from pipeline.runs.backtest import past as pasts
from pipeline.runs.backtest.matrix import LossMatrix, assembled, build
from pipeline.runs.backtest.past import Span
from pipeline.runs.backtest.run import span_of
from pipeline.runs.backtest.training_windows import TrainingWindow, TrainingWindows
from pipeline.runs.backtest.versions import KEPT_DAYS, ScoredVersion, VersionMaker, forget_unused
from pipeline.settings.models import Model
from pipeline.training import fit, frames

START = datetime(2024, 2, 10, tzinfo=UTC)
SPAN = Span(START, START + timedelta(days=20), 2)
BLOCK = {**CHURN, "training": {**CHURN["training"], "estimator": "linear", "options": {}, "encoding": "one_hot"}}
MODEL = Model.model_validate(BLOCK)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, _made: Path) -> tuple[LossMatrix, Path]:
    """The matrix, made once, and the folder of what was made."""
    root = tmp_path_factory.mktemp("backtest")
    (root / "customers").mkdir()
    shutil.copy(_made / "customers" / "all.parquet", root / "customers" / "all.parquet")
    return build("churn", MODEL, root, root / "kept", SPAN, 1), root / "kept"


@pytest.fixture
def folder(project: Path, first: tuple[LossMatrix, Path]) -> Path:
    """What was made, where the command of `project` looks for it."""
    return Path(shutil.copytree(first[1], project / ".perennial" / "backtests" / "churn"))


def test_a_cell_is_the_loss_of_a_version_that_knew_no_later_label(first: tuple[LossMatrix, Path]) -> None:
    """It is what a fit by hand on the rows and labels of its as-of loses, on a window's rows with the labels that were due."""
    matrix, _ = first
    history = matrix.history
    assert (history.delay, history.windows, matrix.untrained) == (1, 9, {})
    model, rows = MODEL.model_copy(update={"as_of": START + timedelta(days=4)}), customers()
    past = rows[(rows.decided_at <= model.as_of) & (rows.seen_at >= model.as_of - timedelta(days=30))]
    fitted = fit.fit(past.reset_index(drop=True), model, everything=True)
    begin = START + timedelta(days=10)
    window = rows[(rows.seen_at >= begin) & (rows.seen_at < begin + timedelta(days=2))]
    asked = frames.features_of(window.reset_index(drop=True), model)
    probability = np.clip(fit.predict(fitted, asked, model.training), 1e-7, 1 - 1e-7)
    by_hand = -np.log(np.where(window.left == 1, probability, 1 - probability)).mean()
    assert history.losses[2, 5] == pytest.approx(by_hand, rel=1e-6)
    assert np.isnan(history.losses[np.tril_indices(9, -1)]).all()
    assert matrix.rows.tolist() == [120] * 9


def test_what_was_made_is_not_made_again(project: Path, folder: Path, first: tuple[LossMatrix, Path]) -> None:
    """A second backtest trains nothing, one more window trains one version, another loss none, and broken files their own alone."""
    losses = first[0].history.losses
    again = build("churn", MODEL, project, folder, SPAN, 1)
    assert (first[0].trained, again.trained) == (9, 0)
    assert np.array_equal(losses, again.history.losses, equal_nan=True)
    span = replace(SPAN, end=SPAN.end + timedelta(days=2))
    longer = build("churn", MODEL, project, folder, span, 1)
    assert longer.trained == 1
    slow = VersionMaker("churn", MODEL, project, project / "anew", pasts.read("churn", MODEL, project, span)).version(3)
    assert slow.losses == tuple(longer.history.losses[3, 3:])
    by_brier = MODEL.model_copy(update={"economics": MODEL.economics.model_copy(update={"loss": "brier"})})
    brier = build("churn", by_brier, project, folder, SPAN, 1)
    assert brier.trained == 0
    assert brier.history.losses[0, 0] != losses[0, 0]
    names = sorted(each.name for each in first[1].iterdir())
    record, fitted = folder / names[0] / "record.json", folder / names[1] / "model.skops"
    record.write_bytes(record.read_bytes()[:-9])
    fitted.write_bytes(fitted.read_bytes()[:-9])
    # A broken model is missed when it is to score another window.
    mended = build("churn", MODEL, project, folder, replace(SPAN, end=SPAN.end + timedelta(days=4)), 1)
    assert mended.trained == 3
    assert np.array_equal(losses, mended.history.losses[:9, :9], equal_nan=True)


def test_a_corrected_row_trains_the_versions_that_learnt_from_it(project: Path, folder: Path) -> None:
    """The key of a version is of its rows: others keep theirs."""
    file = project / "customers" / "all.parquet"
    rows = pd.read_parquet(file)
    rows.loc[rows.seen_at == rows.seen_at[rows.seen_at < START + timedelta(days=12)].max(), "spend"] += 1
    rows.to_parquet(file)
    # Its label is known two days later: the first seven versions never learnt from it.
    assert build("churn", MODEL, project, folder, SPAN, 1).trained == 2


def test_a_version_that_a_gate_refuses_has_the_reason(project: Path) -> None:
    """Too few rows for the contract; the next backtest need not ask again."""
    contract = MODEL.gates.contract.model_copy(update={"min_rows": 10_000})
    strict = MODEL.model_copy(update={"gates": MODEL.gates.model_copy(update={"contract": contract})})
    maker = VersionMaker("churn", strict, project, project / "kept", pasts.read("churn", strict, project, SPAN))
    first, again = maker.version(0), maker.version(0)
    assert "rows kept, at least 10,000 required" in first.reason
    assert (first.losses, again) == (None, first)


def test_a_history_begins_with_its_first_version(project: Path) -> None:
    """A later window without one has a row of NaN and the reason, and knows of no alarm; without any, the first reason is told."""
    past = pasts.read("churn", MODEL, project, SPAN)
    versions = [ScoredVersion(n, (0.5,) * (9 - n), alarm=True) for n in range(9)]
    versions[0], versions[4] = ScoredVersion(0, reason="few rows"), ScoredVersion(4, reason="one class")
    found = assembled("churn", past, versions)
    assert found.history.starts[0] == "2024-02-12"
    assert found.untrained == {"2024-02-18": "one class"}
    assert np.isnan(found.history.losses[3]).all()
    assert found.history.drifted.tolist() == [False, True, True, True, False, True, True, True]
    with pytest.raises(PerennialError, match="no version can be trained early enough: few rows"):
        assembled("churn", past, [ScoredVersion(n, reason="few rows") for n in range(9)])


def test_a_row_whose_label_is_not_due_yet_counts_in_no_window(project: Path) -> None:
    """One label in fifty comes weeks late: its row is left out, and no window waits for it."""
    rows = customers()
    rows.loc[::50, "decided_at"] += pd.Timedelta(days=15)
    rows.to_parquet(project / "customers" / "all.parquet")
    past = pasts.read("churn", MODEL, project, SPAN)
    assert past.delay == 1
    assert np.diff(past.begins).sum() == 9 * 120 * 49 // 50


@pytest.mark.parametrize(("days", "end"), [(0, None), (2, "2023-01-01"), (7, "2024-02-20")])
def test_a_span_that_says_nothing_is_refused(project: Path, days: float, end: str | None) -> None:
    """In one line that names the option."""
    until = datetime.fromisoformat(end).replace(tzinfo=UTC) if end else None
    with pytest.raises(PerennialError, match="--"):
        span = span_of("churn", MODEL, project, None, until, days, datetime(2024, 3, 10, tzinfo=UTC))
        pasts.read("churn", MODEL, project, span)


def test_the_span_is_that_of_the_labelled_rows(project: Path) -> None:
    """From a whole training window on, or half of the time, to the newest label, whatever the schedule says of the past."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    late = MODEL.model_copy(update={"schedule": MODEL.schedule.model_copy(update={"start": now, "end": None})})
    assert span_of("churn", late, project, None, None, 2, now) == Span(
        datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 16, tzinfo=UTC), 2
    )
    source = late.source.model_copy(update={"window_days": 70})
    assert span_of("churn", late.model_copy(update={"source": source}), project, None, None, 2, now).start.day == 8


def test_the_command_says_what_it_recommends(project: Path, folder: Path, capfd) -> None:
    """The table, the page and the event say the same, and what is guessed is said to be."""
    write_params(project, {**yaml.safe_load((project / "params.yaml").read_text()), "models": {"churn": BLOCK}})
    asked = ["backtest", "churn", "--from", "2024-02-10", "--to", "2024-03-01", "--window-days", "2"]
    assert main(asked) == 0
    said = capfd.readouterr().out
    (entry,) = Ledger(f"sqlite:///{project}/.perennial/ledger.db").events(Backtested, model="churn")
    assert f"recommended: {entry.event.recommendation}" in said
    assert "guesses in it: economics.value" in entry.event.recommendation
    assert {line["policy"] for line in entry.event.policies} >= {"never", "always", "tuned schedule", "oracle"}
    assert entry.event.curve[0].keys() == {"age", "excess", "pairs"}
    page = Path(entry.event.report or "").read_text()
    assert page.count("<rect") == 9 * 10 // 2
    _is_shown_from_the_ledger(Context.here(), page)
    assert main([*asked, "--json"]) == 0
    values = json.loads(capfd.readouterr().out)
    assert (values["trained"], values["delay"], len(values["losses"])) == (0, 1, 9)
    assert values["economics"]["value"]["known"] == "guess"


def _is_shown_from_the_ledger(context: Context, written: str) -> None:
    """The same pictures wherever the ledger is read; an older one by its number, and one without pictures says where they are."""
    (entry,) = context.ledger.events(Backtested, model="churn")
    shown = backtest_page(context, "churn")
    for picture in ("<rect", "<polyline", "<tr>"):
        assert shown.count(picture) == written.count(picture) > 0
    assert "receipts/churn" in shown and "?number=" not in shown
    context.ledger.append(entry.event, "churn")
    assert "on the machine that computed it" in backtest_page(context, "churn")
    older = backtest_page(context, "churn", entry.seq)
    assert older.count("<rect") == written.count("<rect") and older.count("?number=") == 2
    for model, number in (("churn", 10**6), ("other", 0)):
        with pytest.raises(DataError, match=f"model {model}: has no such backtest"):
            backtest_page(context, model, number)


def test_training_windows_are_compared_on_the_same_rows(project: Path, folder: Path, capfd) -> None:
    """The model's own thirty days, and all of the source, which 365 days are too; a second time nothing is trained."""
    write_params(project, {**yaml.safe_load((project / "params.yaml").read_text()), "models": {"churn": BLOCK}})
    asked = ["backtest", "churn", "--from", "2024-02-10", "--to", "2024-03-01", "--window-days", "2"]
    assert main([*asked, "--windows", "5,365,all"]) == 0
    said = capfd.readouterr().out
    ledger = Ledger(f"sqlite:///{project}/.perennial/ledger.db")
    (entry,) = ledger.events(Backtested, model="churn")
    five, own, whole = entry.event.training_windows
    assert [each["window_days"] for each in (five, own, whole)] == [5, 30, 60]
    assert (five["loss"], own["own"], whole["whole"]) == (None, True, True)
    assert "evaluation.holdout_days: 7" in five["reason"]
    assert whole["saved"]["low"] <= whole["saved"]["value"] <= whole["saved"]["high"]
    assert f"recommended: {entry.event.training_window}" in said and "all, 60" in said
    best = next(each for each in entry.event.policies if each["policy"] == entry.event.best)
    assert own["loss"] == pytest.approx(best["loss"])
    made = len([*folder.iterdir()])
    assert main([*asked, "--windows", "all"]) == 0
    assert len([*folder.iterdir()]) == made
    assert ledger.events(Backtested, model="churn")[-1].event.training_windows[1] == whole


def test_training_windows_are_compared_by_the_very_policy_that_was_found() -> None:
    """In windows of a day too, where a retrain has half a year to pay: versions that lose the same have saved nothing."""
    age = np.arange(100) - np.arange(100)[:, None]
    losses = np.where(age < 0, np.nan, 1 + 0.01 * age)
    same = LossMatrix(History(losses, np.ones(100), 0, np.zeros(100, bool)), np.full(100, 50), 0, {}, ())
    found = compare(same.history, 20.0, rules.of_spans(Spans(1)))
    by_value = replace(found, policies=(found.of("value"),))
    assert by_value.best.outcome.retrained
    assert training_windows._beside(TrainingWindow(60), same, same, by_value, Spans(1)).saved == Saved(0, 0, 0)


def test_the_tasks_of_a_dag_make_what_the_last_one_compares(project: Path, monkeypatch) -> None:
    """Each training window in the folder and the span that the comparison takes; on a server what they make goes through the DVC remote."""
    context, made = Context.here(), []
    planned = parts.plan(context, "churn", datetime(2024, 3, 20, tzinfo=UTC))
    assert planned == {"start": "2024-02-01T00:00:00+00:00", "end": "2024-03-16T00:00:00+00:00", "apart": ["30", "75"]}
    monkeypatch.setattr(parts, "build", lambda *asked, **_: made.append(asked) or SimpleNamespace(trained=3))
    assert [parts.make(context, "churn", planned, window) for window in ("30", "75", "7")] == [3, 3, 0]
    span = Span(datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 16, tzinfo=UTC), 7)
    assert [(model.source.window_days, folder, of) for _, model, _, folder, of in made] == [
        (days, context.home / "backtests" / "churn", span) for days in (30, 75)
    ]
    asked: list = []
    windows = SimpleNamespace(recommendation="keep")
    found = SimpleNamespace(windows=windows, recommendation="never", matrix=SimpleNamespace(trained=0), report="p")
    monkeypatch.setattr(parts.run, "backtest", lambda *given, **named: asked.extend([given[2:], named]) or found)
    assert parts.compare(context, "churn", planned)["training_window"] == "keep"
    assert asked == [(span.start, span.end), {"windows": training_windows.USUAL}]
    moved: list = []
    monkeypatch.setattr(parts.shared, "take", lambda *given: moved.append(("take", *given[1:])))
    monkeypatch.setattr(parts.shared, "share", lambda *given: moved.append(("share", *given[1:4])))
    monkeypatch.setattr(Context, "server_mode", True)
    assert parts.plan(context, "churn", datetime(2024, 3, 20, tzinfo=UTC)) == planned
    assert parts.make(context, "churn", planned, "30") == 3
    parts.compare(context, "churn", planned)
    kept = context.home / "backtests" / "churn"
    assert moved == [("take", "churn", kept), ("share", "churn", "30", kept), ("take", "churn", kept)]


@pytest.mark.parametrize("asked", ["0", "x", "-3", "1e9"])
def test_a_training_window_that_is_none_is_refused(asked: str) -> None:
    """In one line with the form to write."""
    with pytest.raises(PerennialError, match="--windows: .*write them like 30,90,365,all"):
        training_windows.lengths_of([asked], MODEL, SPAN, START - timedelta(days=40))


def test_a_window_that_the_history_proves_better_is_recommended() -> None:
    """One that it cannot tell from the model's own is not, and one that lost more never."""
    own = TrainingWindow(30, own=True, loss=0.5)
    better, doubtful = (TrainingWindow(90, loss=0.4, saved=Saved(1, low, 2)) for low in (0.5, -0.5))
    found = [TrainingWindows("value", (own, other), 0) for other in (better, doubtful)]
    assert found[0].recommendation == "use source.window_days: 90: it lost 20.0% less than 30 under value"
    assert found[1].recommendation.startswith("keep source.window_days: 30: 90 days lost 20.0% less")
    worse = TrainingWindows("value", (own, TrainingWindow(90, loss=0.6, saved=Saved(-1, -2, -0.5))), 0)
    assert worse.recommendation.startswith("keep source.window_days: 30: no other")
    earns = TrainingWindow(30, own=True, loss=-0.5), TrainingWindow(90, loss=-0.6, saved=Saved(1, 0.5, 2))
    assert "it lost 20.0% less" in TrainingWindows("value", earns, 0).recommendation


def test_what_nobody_read_for_long_is_removed(tmp_path: Path) -> None:
    """By the record's last reading."""
    (tmp_path / "a").mkdir()
    (record := tmp_path / "a" / "record.json").write_text("{}")
    forget_unused(tmp_path, record.stat().st_mtime + (KEPT_DAYS - 1) * 86_400)
    assert record.exists()
    forget_unused(tmp_path, record.stat().st_mtime + (KEPT_DAYS + 1) * 86_400)
    assert not record.parent.exists()


def test_one_reading_knows_what_each_version_learns_from(project: Path) -> None:
    """The fingerprints of all windows are those of each by itself, with labels that come late and rows that arrive late."""
    file = project / "customers" / "all.parquet"
    rows = customers().assign(arrived=lambda rows: rows.seen_at + pd.to_timedelta(rows.index % 5, unit="D"))
    rows.to_parquet(file)
    source = MODEL.source.model_copy(update={"arrival_time": "arrived"})
    model = MODEL.model_copy(update={"source": source})
    windows = [(START + timedelta(days=n - 30), START + timedelta(days=n)) for n in (0, 2, 9)]
    each = []
    for start, end in windows:
        with snapshot.known("churn", model, project, start, end, end) as known:
            each.append(known.fingerprint)
    assert len(set(each)) == 3
    assert known_at_once.fingerprints("churn", model, project, windows) == each


@pytest.mark.parametrize(
    ("by_itself", "made", "asked"),
    [
        ("abc", "ab", [2]),
        ("abc", "abc", [2]),
        ("abX", "ab", [2, 0, 1]),
        ("abX", "abc", [2, 0, 1]),
        ("Xbc", "bc", [0, 1, 2]),
    ],
)
def test_one_reading_is_believed_as_long_as_windows_have_the_same_rows_by_themselves(
    tmp_path: Path, monkeypatch, by_itself: str, made: str, asked: list[int]
) -> None:
    """Those that are made now say so, or the newest one; where they differ, all are read by themselves."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "record.json").write_text("{}")
    read: list[int] = []
    maker = SimpleNamespace(
        name="churn",
        model=MODEL,
        root=tmp_path,
        folder=tmp_path,
        past=SimpleNamespace(windows=3),
        window=lambda number: (START, START + timedelta(days=number)),
        kept=lambda number, rows: ScoredVersion(number, (0.0,), rows=rows) if rows in made else None,
        version=lambda number: read.append(number) or ScoredVersion(number, (1.0,), rows=by_itself[number]),
    )
    monkeypatch.setattr(matrix.known_at_once, "fingerprints", lambda *_: [*"abc"])
    found = sorted(matrix.made(maker, 1), key=lambda version: version.number)
    assert [version.number for version in found] == [0, 1, 2]
    assert read == asked
