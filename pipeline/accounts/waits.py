"""Whether it paid not to retrain: for each decision to wait, what the champion lost by its age in the window after it, against what a
retrain would have cost.

    lost = excess(age) * labelled rows of the window after the decision * value of a unit of loss

`excess(age)` is how much more loss a version of that age has than a new one on the same rows, as the model's newest backtest measured it.
Nobody can know it of a version that was never trained: so the rows are measured, and the excess is the backtest's, with its error. Without
a backtest there is only what the receipt expected, which settles nothing, and the account says so. A week that a retrain is put off costs its excess and no more,
as the next look may retrain.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pipeline.accounts.statement import Terms
from pipeline.accounts.windows import ScoredWindow, scored_windows
from pipeline.ledger.decision_events import Backtested
from pipeline.ledger.rollup_parts import LOOKS
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.store import Entry, Ledger

# Of a two-sided interval of 90 % under a normal distribution.
NORMAL = 1.645
BACKTEST, RECEIPT = "the newest backtest's excess by age", "the receipt's expectation"
PAID, DID_NOT_PAY, OPEN, UNKNOWN = "waiting paid", "waiting did not pay", "open", "no labels yet"
UNSETTLED = "not settled: no backtest"


@dataclass(frozen=True)
class Wait:
    """The decision as of `as_of` not to retrain: what it lost, from `low` to `high`, and what a retrain would have cost; None where
    nobody knows. `rows` are the labelled ones of the window after it."""

    seq: int
    as_of: str
    champion: str
    age: int | None
    rows: int
    lost: float | None
    low: float | None
    high: float | None
    retrain_cost: float | None
    basis: str
    events: tuple[int, ...] = ()

    @property
    def verdict(self) -> str:
        if self.basis == RECEIPT:
            # What a receipt expected is no settlement of it.
            return UNSETTLED
        if self.lost is None or self.retrain_cost is None:
            return UNKNOWN
        low, high = self.low, self.high
        if low is None or high is None:
            return OPEN
        return PAID if high < self.retrain_cost else DID_NOT_PAY if low > self.retrain_cost else OPEN

    def as_dict(self) -> dict[str, Any]:
        return {
            "as_of": self.as_of,
            "champion": self.champion,
            "age_windows": self.age,
            "labelled_rows": self.rows,
            "lost": self.lost,
            "lost_low": self.low,
            "lost_high": self.high,
            "retrain_cost": self.retrain_cost,
            "basis": self.basis,
            "known": "measured" if self.basis == BACKTEST else "guess",
            "verdict": self.verdict,
            "events": [self.seq, *self.events],
        }


def waits(ledger: Ledger, terms: Terms, model: str, windows: Sequence[ScoredWindow]) -> list[Wait]:
    """The decisions of a model to wait, oldest first; of a look that was repeated the last. `windows` are its scored ones."""
    decided = {row[2]: row for row in rolled_up(ledger, LOOKS, model=model)[LOOKS]}
    if not decided:
        return []
    loss = terms.loss(model)
    scored = _Windows(windows)
    # In another loss its curve is in another unit.
    tested = [each for each in ledger.events(Backtested, model=model) if loss in ("", each.event.loss)]
    value, _ = terms.economics(model).unit
    newest = tested[-1] if tested else None
    return [_wait(row, scored, newest, value) for row in decided.values() if row[3]]


def of_model(ledger: Ledger, terms: Terms, model: str) -> list[Wait]:
    """The same by what the ledger has of the model's windows in its loss."""
    return waits(ledger, terms, model, scored_windows(ledger, model, terms.loss(model)))


def _wait(decided: Sequence[Any], windows: _Windows, tested: Entry[Backtested] | None, value: float) -> Wait:
    _, seq, as_of, _, champion, age, cost, *expected = decided
    after = windows.after(as_of)
    rows, seqs = sum(window.labelled for window in after), tuple(each for window in after for each in window.events)
    excess = _excess(tested.event, age, after) if tested is not None and age is not None else None
    if tested is None or excess is None:
        saving, low, high = expected
        return Wait(seq, as_of, champion, age, rows, saving, low, high, cost, RECEIPT, seqs)
    seqs += (tested.seq,)
    if not after:
        return Wait(seq, as_of, champion, age, 0, None, None, None, cost, BACKTEST, seqs)
    lost = excess * rows * value
    b, error = (tested.event.staleness.get(key, 0.0) for key in ("b", "error"))
    spread = abs(lost) * NORMAL * error / b if b > 0 else None
    low, high = (None, None) if spread is None else (lost - spread, lost + spread)
    return Wait(seq, as_of, champion, age, rows, lost, low, high, cost, BACKTEST, seqs)


def said(found: Sequence[Wait], currency: str) -> str:
    """How many there are, how they are settled, and what waiting lost by the labels that came; '' without any. Looks of one window are settled
    by the same rows, which count once; what receipts expected overlaps, and has no sum."""
    if not found:
        return ""
    verdicts = [each.verdict for each in found]
    counts = ", ".join(f"{verdicts.count(name)} {name}" for name in dict.fromkeys(verdicts))
    line = f"decisions to wait: {len(found)} ({counts})"
    by_window = {each.events: each.lost for each in found if each.basis == BACKTEST and each.lost is not None}
    if not by_window:
        return line
    windows = f"{len(by_window)} window{'s' if len(by_window) > 1 else ''}"
    return f"{line}; over {windows} with labels waiting lost {sum(by_window.values()):,.2f} {currency}, by {BACKTEST}"


class _Windows:
    """The windows in the order of their starts, so that the one after a look is found without reading all."""

    def __init__(self, windows: Sequence[ScoredWindow]) -> None:
        timed = [(datetime.fromisoformat(each.start), datetime.fromisoformat(each.end), each) for each in windows]
        self._timed = sorted(timed, key=lambda each: each[0])
        self._longest = max((end - start for start, end, _ in timed), default=timedelta(0))

    def after(self, as_of: str) -> list[ScoredWindow]:
        """The first whole window after the look: a look inside a window waits for the next one."""
        looked = datetime.fromisoformat(as_of)
        place = bisect_left(self._timed, looked, key=lambda each: each[0])
        while place < len(self._timed) and self._timed[place][0] - looked < self._longest:
            start, end, window = self._timed[place]
            if start - looked < end - start:
                return [window]
            place += 1
        return []


def _excess(tested: Backtested, age: int, after: Sequence[ScoredWindow]) -> float | None:
    """At that age, or at the largest that was measured below it; None where none was. An age counts windows, whose length is another one
    where the backtest was asked for it, or the model's was changed since."""
    days = _days(after[0]) if after else tested.window_days
    known = {int(point["age"]): float(point["excess"]) for point in tested.curve}
    reached = [measured for measured in known if measured * tested.window_days <= age * days]
    return known[max(reached)] if reached else None


def _days(window: ScoredWindow) -> float:
    return (datetime.fromisoformat(window.end) - datetime.fromisoformat(window.start)) / timedelta(days=1)
