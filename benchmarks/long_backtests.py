"""Backtests of a model in a long ledger, each with its picture: as many windows as one can show, and the policies of a usual one."""

from __future__ import annotations

import random
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from benchmarks.long_ledger import END
from pipeline.ledger.decision_events import BacktestDrawn, Backtested
from pipeline.ledger.store import Ledger
from pipeline.policy.retraining.staleness import Staleness
from pipeline.runs.backtest.run import DRAWN_WINDOWS

POLICIES = (
    "the oracle",
    "value",
    "never",
    "always",
    "every 4 windows",
    "age",
    "drift",
    "loss",
    "guarded value",
    "tuned",
)
# Of two years, one in eight weeks.
BACKTESTS = 13
FIGURES = ("value", "rows_a_day", "machine", "people", "risk")
SAVED = {"value": 10.0, "low": -5.0, "high": 25.0}


def add(ledger: Ledger, model: str) -> None:
    """Appends them, the picture right after its backtest."""
    draw = random.Random(0)
    for number in reversed(range(BACKTESTS)):
        ledger.append_all(_backtest(number, draw), model)


def _backtest(number: int, draw: random.Random) -> list[Any]:
    end = END - timedelta(weeks=8 * number)
    starts = [f"{end - timedelta(weeks=week):%Y-%m-%d}" for week in range(DRAWN_WINDOWS, 0, -1)]
    of = {"start": starts[0], "end": f"{end:%Y-%m-%d}", "window_days": 7.0}
    made = Backtested(
        **of,
        windows=DRAWN_WINDOWS,
        delay=1,
        compared_from=starts[20],
        loss="log_loss",
        recommendation="value, which saved most",
        best="value",
        tells=True,
        curve=[{"age": age, "excess": age / 1000, "pairs": DRAWN_WINDOWS - age} for age in range(1, DRAWN_WINDOWS)],
        staleness=asdict(Staleness(0.001, 8.0, 0.0002, DRAWN_WINDOWS)),
        economics={
            "currency": "USD",
            "retrain": 24.0,
            "guesses": [],
            **{name: {"value": 1.0, "known": "yours", "how": "stated"} for name in FIGURES},
        },
        policies=[
            {
                "policy": name,
                "total": 100.0,
                "loss": 0.5,
                "retrains": 9,
                "went_back": 0,
                "saved_against_never": SAVED,
                "saved_against_tuned_schedule": SAVED,
            }
            for name in POLICIES
        ],
    )
    drawn = BacktestDrawn(
        **of,
        window_starts=starts,
        losses=[[round(0.5 + draw.random() / 10, 9) for _ in starts[own:]] for own in range(DRAWN_WINDOWS)],
        saved={name: [round(week * draw.random(), 2) for week in range(DRAWN_WINDOWS)] for name in POLICIES},
    )
    return [made, drawn]
