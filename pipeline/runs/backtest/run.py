"""A backtest: the loss matrix of a model's past, every policy on it, what that would have cost in money, and what it recommends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.errors import SettingsError
from pipeline.ledger import costs
from pipeline.ledger.decision_events import BacktestDrawn, Backtested
from pipeline.policy.economics import Figure, Worth, worth
from pipeline.policy.retraining import covariates, rules
from pipeline.policy.retraining.comparison import Compared, Comparison, Saved, compare, excess_by_age
from pipeline.policy.retraining.forecast import gains_of
from pipeline.policy.retraining.held import Spans
from pipeline.policy.retraining.recommendation import recommendation
from pipeline.policy.retraining.staleness import backtested
from pipeline.runs.backtest import page, past, training_windows
from pipeline.runs.backtest.matrix import LossMatrix, build
from pipeline.runs.backtest.past import Span
from pipeline.runs.backtest.training_windows import TrainingWindows
from pipeline.settings.models import Model
from pipeline.settings.times import LONGEST_DAYS, SHORTEST_WINDOW_DAYS

WINDOW_DAYS = 7.0
# The requests of so many days say how many rows a day there are.
COUNTED_DAYS = 28
# Three years of weeks: more cells than that are smaller than a pixel.
DRAWN_WINDOWS = 156
# Each has a version to train, and a loss for each version: 38 years of weeks, or five of days.
MOST_WINDOWS = 2000


@dataclass(frozen=True)
class Backtest:
    """Costs in `worth.currency` are those in units of loss times `unit`."""

    model: str
    span: Span
    matrix: LossMatrix
    worth: Worth
    comparison: Comparison
    recommendation: str
    report: Path | None = None
    windows: TrainingWindows | None = None

    @property
    def unit(self) -> float:
        return self.worth.unit(self.span.days)

    def money(self, saved: Saved) -> dict[str, float]:
        return {"value": saved.value * self.unit, "low": saved.low * self.unit, "high": saved.high * self.unit}

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Each policy and the oracle, the cheapest first."""
        return [self._line(each) for each in (self.comparison.oracle, *self.comparison.policies)]

    def _line(self, compared: Compared) -> dict[str, Any]:
        outcome = compared.outcome
        rows = self.matrix.history.weights[self.comparison.first :].sum()
        return {
            "policy": compared.policy,
            "total": outcome.total * self.unit,
            "loss": outcome.loss / rows,
            "retrains": len(outcome.retrained),
            "went_back": len(outcome.went_back),
            "saved_against_never": self.money(compared.against_never),
            "saved_against_tuned_schedule": self.money(compared.against_tuned),
        }

    @property
    def curve(self) -> list[dict[str, Any]]:
        """The excess loss by age, see `excess_by_age`."""
        return [{"age": age, "excess": by, "pairs": pairs} for age, by, pairs in excess_by_age(self.matrix.history)]

    def event(self) -> Backtested:
        history, first = self.matrix.history, self.comparison.first
        return Backtested(
            start=history.starts[0],
            end=_end(self.span, history.starts[-1]),
            window_days=self.span.days,
            windows=history.windows,
            delay=history.delay,
            compared_from=history.starts[first],
            loss=self.worth.loss,
            recommendation=self.recommendation,
            best=self.comparison.best.policy,
            tells=self.comparison.tells,
            curve=self.curve,
            staleness=asdict(backtested(history.losses, history.drifted)),
            gains=asdict(gains_of(history.losses, np.arange(history.windows), history.delay, all_pairs=True)),
            economics=self.worth.as_dict(),
            policies=self.lines,
            report=str(self.report) if self.report else None,
            training_windows=self.windows.as_dicts(self.unit) if self.windows else (),
            training_window=self.windows.recommendation if self.windows else "",
            covariates=covariates.measured(history.losses, history.drifted, self.matrix.signals),
        )

    def drawn(self) -> BacktestDrawn:
        """The newest windows alone, of more than a picture can show."""
        history = self.matrix.history
        first = max(0, history.windows - DRAWN_WINDOWS)
        losses = [[_drawn(loss) for loss in row[v:]] for v, row in enumerate(history.losses.tolist())][first:]
        saved = {policy: [_drawn(value) or 0.0 for value in line] for policy, line in _cumulated(self).items()}
        return BacktestDrawn(
            start=history.starts[0],
            end=_end(self.span, history.starts[-1]),
            window_days=self.span.days,
            window_starts=list(history.starts[first:]),
            losses=losses,
            saved=saved,
            untrained=self.matrix.untrained,
            windows_without_rows=list(self.matrix.left_out),
        )

    def as_dict(self) -> dict[str, Any]:
        history = self.matrix.history
        return {
            "model": self.model,
            **self.event().body(),
            "schedule_windows": self.comparison.schedule,
            "alike": list(self.comparison.alike),
            "trained": self.matrix.trained,
            "untrained": self.matrix.untrained,
            "windows_without_rows": list(self.matrix.left_out),
            "window_starts": list(history.starts),
            "rows": self.matrix.rows.tolist(),
            "losses": [[None if np.isnan(loss) else loss for loss in row] for row in history.losses.tolist()],
        }


def backtest(
    context: Context,
    name: str,
    start: datetime | None = None,
    end: datetime | None = None,
    window_days: float = WINDOW_DAYS,
    processes: int | None = None,
    windows: Sequence[str] = (),
) -> Backtest:
    """Replays the past of the model `name`; writes the page and an event. `start` and `end` are as for `span_of`, `windows` as for
    `training_windows.lengths_of`. Raises SettingsError for a span that is too short, and DataError."""
    model, root, folder = context.params.model_of_a_run(name), context.project, context.home / "backtests" / name
    span = span_of(name, model, root, start, end, window_days, context.clock())
    lengths = (
        training_windows.lengths_of(windows, model, span, training_windows.first_row(name, model, root, span))
        if windows
        else {}
    )
    read = past.read(name, model, root, span)
    matrix = build(name, model, root, folder, span, processes, read)
    counted = _rows_a_day(context, name, matrix, span)
    runs = costs.run_costs(context.ledger, context.params.prices, model=name)
    of = worth(model.economics, model.loss, context.params.prices, runs, counted)
    spans = Spans(span.days, model.source.window_days, model.policy.due_after_days)
    comparison = compare(matrix.history, of.retrain_in_loss(span.days), rules.of_spans(spans))
    said = recommendation(comparison, of, span.days)
    lost = (
        training_windows.compared(name, model, root, folder, read, matrix, comparison, lengths, processes)
        if lengths
        else None
    )
    report = context.home / "reports" / name / f"backtest-{span.start:%Y-%m-%d}-{span.end:%Y-%m-%d}-{span.days:g}d.html"
    found = Backtest(name, span, matrix, of, comparison, said, report, lost)
    report.parent.mkdir(parents=True, exist_ok=True)
    event, drawn = found.event(), found.drawn()
    report.write_text(page.backtest_page(name, event, drawn), encoding="utf-8")
    context.ledger.append_all([event, drawn], model=name)
    return found


def span_of(
    name: str, model: Model, root: Path, start: datetime | None, end: datetime | None, window_days: float, now: datetime
) -> Span:
    """What of it is not given: it ends with the newest labelled row, and begins when the source had rows for a whole training window, or
    for half of the time."""
    if not SHORTEST_WINDOW_DAYS <= window_days <= LONGEST_DAYS:
        line = f"--window-days must be from {SHORTEST_WINDOW_DAYS:g} to {LONGEST_DAYS:,}; got {window_days:g}"
        raise SettingsError(f"backtest of {name}", line, "use 7")
    until = end or min(model.schedule.end or now, now)
    if start is None or end is None:
        first, last = past.reach(name, model, root, start, until)
        end = min(until, _next_day(last))
        start = start or _next_day(first + min(timedelta(days=model.source.window_days), (end - first) / 2))
    if start >= end:
        line = f"the span begins on {start:%Y-%m-%d %H:%M} and ends on {end:%Y-%m-%d %H:%M}"
        raise SettingsError(f"backtest of {name}", line, "choose an earlier --from or a later --to")
    span = Span(start, end, window_days)
    if (windows := (end - start) // span.length) > MOST_WINDOWS:
        line = f"{windows:,} windows of {window_days:g} days, each with a version to train; {MOST_WINDOWS:,} at most"
        raise SettingsError(f"backtest of {name}", line, "choose longer --window-days or a later --from")
    return span


def _next_day(time: datetime) -> datetime:
    return (time + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)


def _rows_a_day(context: Context, name: str, matrix: LossMatrix, span: Span) -> Figure:
    now = context.clock()
    asked = traffic(context).predictions(name, now - timedelta(days=COUNTED_DAYS), now).rows
    if len(asked) and (days := (now - asked["event_time"].min()).total_seconds() / 86_400) >= 1:
        return Figure(len(asked) / days, "measured", f"the prediction log of the last {days:.0f} days")
    return Figure(float(matrix.rows.mean()) / span.days, "measured", "the labelled rows of the source")


def _end(span: Span, last: str) -> str:
    return (datetime.fromisoformat(last) + span.length).isoformat(timespec="minutes").removesuffix("T00:00")


def _drawn(value: float) -> float | None:
    """In as many places as a picture shows."""
    return None if np.isnan(value) else float(f"{value:.5g}")


def _cumulated(found: Backtest) -> dict[str, list[float]]:
    """Of each policy but never: what it has saved against never by the end of each window that was compared."""
    never = found.comparison.of("never").costs
    each = (found.comparison.oracle, *found.comparison.policies)
    return {c.policy: (np.cumsum(never - c.costs) * found.unit).tolist() for c in each if c.policy != "never"}
