"""The page of a model's receipts: what each decision expected to save, against what it saved by the labels that came."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.accounts import waits
from pipeline.accounts.statement import Terms
from pipeline.accounts.waits import Wait
from pipeline.context import Context
from pipeline.html.templates import rendered
from pipeline.pages.downloads import Table
from pipeline.pages.kept_settings import with_kept_settings
from pipeline.runs.receipt_calibration import Calibration, calibration

SIDE = 360.0
# At once; the older ones are a link away, and the files have all.
SHOWN = 300
COLUMNS = (
    *(
        "as_of",
        "decision",
        "version",
        "instead",
        "windows",
        "ahead",
        "expected",
        "expected_by_now",
        "saved",
        "low",
        "high",
    ),
    *("cost", "currency", "paid"),
)


def receipts_page(context: Context, model: str, skip: int = 0) -> str:
    """The page as HTML, of what the ledger has, without the `skip` newest; it says so where nothing is settled yet."""
    context = with_kept_settings(context)
    waited = waits.of_model(context.ledger, Terms.of(context.params), model)
    return shown(model, calibration(context.ledger, model), skip, waited, context.params.prices.currency)


def table(context: Context, model: str) -> Table:
    """The receipts that are settled, oldest first."""
    settled = calibration(context.ledger, model).settled
    rows = [{**event.body(), "expected_by_now": event.expected_by_now, "paid": event.paid} for event in settled]
    return Table(COLUMNS, rows)


def shown(model: str, found: Calibration, skip: int = 0, waited: Sequence[Wait] = (), waited_currency: str = "") -> str:
    """The sentence is about all that is settled; table and picture have SHOWN, without the `skip` newest. Of those that `waited` the newest
    SHOWN stand there, as the account has them."""
    end = max(len(found.settled) - skip, 0)
    some = Calibration(found.settled[max(end - SHOWN, 0) : end])
    low, high = _range(some)
    step = SIDE / (high - low)

    def place(value: float) -> float:
        return (value - low) * step

    points = [
        {
            "event": event,
            "x": place(event.expected_by_now or 0.0),
            "y": SIDE - place(event.saved),
            "top": SIDE - place(event.high),
            "bottom": SIDE - place(event.low),
        }
        for event in some.known
    ]
    facts: dict[str, Any] = {
        "model": model,
        "waits": list(reversed(waited[-SHOWN:])),
        "waits_said": waits.said(waited, waited_currency),
        "sentence": found.sentence(),
        "settled": list(reversed(some.settled)),
        "in_all": len(found.settled),
        "skip": skip,
        "older": skip + SHOWN if end > SHOWN else 0,
        "points": points,
        "side": SIDE,
        "zero": place(0.0),
        "range": (low, high),
        "currency": some.known[-1].currency if some.known else "",
    }
    return rendered(Path(__file__).with_name("receipts.html"), facts)


def _range(found: Calibration) -> tuple[float, float]:
    """The same for both axes, so that what came as expected lies on the diagonal."""
    values = [0.0]
    for event in found.known:
        values += [event.expected_by_now or 0.0, event.low, event.high]
    low, high = min(values), max(values)
    margin = 0.05 * ((high - low) or 1.0)
    return low - margin, high + margin
