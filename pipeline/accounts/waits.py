"""Whether it paid not to retrain: for each decision to wait, what the champion lost by its age in the window after it, against what a
retrain would have cost.

    lost = excess(age) * labelled rows of the window after the decision * value of a unit of loss

`excess(age)` is how much more loss a version of that age has than a new one on the same rows, as the model's newest backtest measured it.
Nobody can know it of a version that was never trained: so the rows are measured, and the excess is the backtest's, with its error. Without
a backtest there is only what the receipt expected, which settles nothing, and the account says so. A week that a retrain is put off costs its excess and no more,
as the next look may retrain.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pipeline.accounts.lines import Known
from pipeline.accounts.statement import Terms
from pipeline.accounts.windows import ScoredWindow, scored_windows, unit
from pipeline.ledger.decision_events import Backtested
from pipeline.ledger.rollup_parts import LOOKS
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.store import Entry, Ledger

# Of a two-sided interval of 90 % under a normal distribution.
NORMAL = 1.645
BACKTEST, RECEIPT = "the newest backtest's excess by age", "the receipt's expectation"
PAID, DID_NOT_PAY, OPEN, UNKNOWN = "waiting paid", "waiting did not pay", "open", "no labels yet"
UNSETTLED = "not settled: no backtest"
OTHER_CURRENCY = "not settled: its cost is in another currency"


class Wait(NamedTuple):
    """The decision as of `as_of` not to retrain: what it lost, from `low` to `high`, and what a retrain would have cost; None where
    nobody knows. `rows` are the labelled ones of the window after it, `value_known` says how the value of a unit of loss is known, and
    `priced_in` is another currency than that of the prices, in which its cost and what it expected are; '' for the same."""

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
    value_known: Known = "yours"
    priced_in: str = ""

    @property
    def known(self) -> Known:
        """The weaker of the excess and the value of a unit."""
        return "measured" if self.basis == BACKTEST and self.value_known != "guess" else "guess"

    @property
    def verdict(self) -> str:
        if self.priced_in:
            return OTHER_CURRENCY
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
            "known": self.known,
            "verdict": self.verdict,
            "events": [self.seq, *self.events],
        }


def waits(ledger: Ledger, terms: Terms, model: str, windows: Sequence[ScoredWindow]) -> list[Wait]:
    """The decisions of a model to wait, oldest first; of a look that was repeated the last. `windows` are its scored ones."""
    decided = {row[2]: row for row in rolled_up(ledger, LOOKS, model=model)[LOOKS]}
    if not decided:
        return []
    loss = terms.loss(model) or (windows[-1].loss if windows else "")
    scored = _Windows(windows)
    # In another loss its curve is in another unit.
    tested = [each for each in ledger.events(Backtested, model=model) if loss in ("", each.event.loss)]
    value, known = unit(terms.economics(model), windows)
    newest = tested[-1] if tested else None
    excess = _Excess(newest)
    waited = [_in_currency(row, terms.prices.currency) for row in decided.values() if row[3]]
    return [_wait(row, other, scored, excess, value, known) for row, other in waited]


def _in_currency(decided: Sequence[Any], currency: str) -> tuple[Sequence[Any], str]:
    """(the row without what is in another currency, that currency or '')."""
    stated = decided[6]
    if stated in ("", currency):
        return decided, ""
    return [*decided[:7], None, None, None, None], stated


def of_model(ledger: Ledger, terms: Terms, model: str) -> list[Wait]:
    """The same by what the ledger has of the model's windows in its loss."""
    return waits(ledger, terms, model, scored_windows(ledger, model, terms.loss(model)))


def _wait(
    decided: Sequence[Any], priced_in: str, windows: _Windows, of_age: _Excess, value: float, value_known: Known
) -> Wait:
    _, seq, as_of, _, champion, age, _, cost, *expected = decided
    after = windows.after(as_of)
    rows, seqs = sum(window.labelled for window in after), tuple(each for window in after for each in window.events)
    excess = of_age(age, after) if age is not None else None
    if excess is None:
        saving, low, high = expected
        return Wait(seq, as_of, champion, age, rows, saving, low, high, cost, RECEIPT, seqs, value_known, priced_in)
    seqs += (of_age.seq,)
    lost = low = high = None
    if after:
        lost = excess * rows * value
        if of_age.spread is not None:
            spread = abs(lost) * of_age.spread
            low, high = lost - spread, lost + spread
    return Wait(seq, as_of, champion, age, rows, lost, low, high, cost, BACKTEST, seqs, value_known, priced_in)


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
    guessed = ", at a value of a unit that is a guess" if found[-1].value_known == "guess" else ""
    return f"{line}; over {windows} with labels waiting lost {sum(by_window.values()):,.2f} {currency}, by {BACKTEST}{guessed}"


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


class _Excess:
    """The excess loss by age, as the newest backtest measured it: at an age that has none, that of the largest below it. An age counts windows,
    whose length is another one where the backtest was asked for it, or the model's was changed since. `spread` is half the width of its
    interval as a share of it, None where the backtest does not tell; without a backtest nothing is known."""

    def __init__(self, tested: Entry[Backtested] | None) -> None:
        curve = tested.event.curve if tested is not None else ()
        known = sorted((int(point["age"]), float(point["excess"])) for point in curve)
        self._window_days = tested.event.window_days if tested is not None else 0.0
        self._days, self._excess = [age * self._window_days for age, _ in known], [excess for _, excess in known]
        self.seq = tested.seq if tested is not None else 0
        b, error = (tested.event.staleness.get(key, 0.0) if tested is not None else 0.0 for key in ("b", "error"))
        self.spread = NORMAL * error / b if b > 0 else None

    def __call__(self, age: int, after: Sequence[ScoredWindow]) -> float | None:
        place = bisect_right(self._days, age * (_days(after[0]) if after else self._window_days))
        return self._excess[place - 1] if place else None


def _days(window: ScoredWindow) -> float:
    return (datetime.fromisoformat(window.end) - datetime.fromisoformat(window.start)) / timedelta(days=1)
