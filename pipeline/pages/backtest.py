"""The page of a model's backtest, drawn from the ledger: on a server it is seen wherever it was computed."""

from __future__ import annotations

from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.ledger.decision_events import BacktestDrawn, Backtested
from pipeline.runs.backtest import page

# So many backtests are listed, the newest first.
LISTED = 12


def backtest_page(context: Context, model: str, number: int = 0) -> str:
    """The page of the model's backtest with that number in the ledger, the newest for 0. Raises DataError where there is none."""
    made = list(reversed(context.ledger.events(Backtested, model=model)))
    entry = next((each for each in made if number in (0, each.seq)), None)
    if entry is None:
        raise DataError(f"model {model}", "has no such backtest", f"`perennial backtest {model}` makes one")
    after = context.ledger.events(BacktestDrawn, model=model, after=entry.seq)
    drawn = after[0].event if after and after[0].seq == entry.seq + 1 else None
    others = [{"number": each.seq, "at": each.at, "end": each.event.end} for each in made[:LISTED]]
    return page.backtest_page(model, entry.event, drawn, others)
