"""What the versions of a model lost on the same labelled rows, window by window, as the ledger has it, and what that is in money.

    gain of a window = (loss of the older version - loss of the newer one) * labelled rows * value of a unit of loss

A window is a block: its rows have their weather in common. So the interval of a sum is that of its windows' gains, by Student's t: with
few windows their spread is itself hardly known.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pipeline.ledger.rollup_parts import WINDOWS
from pipeline.ledger.rollups import rolled_up
from pipeline.ledger.store import Ledger
from pipeline.settings.economics import MONEY, Economics

# Of a two-sided interval of 90 %.
UPPER = 0.95
# Student's t at UPPER with 1, 2, … degrees of freedom, as scipy gives it, which takes an eighth of a second to import. A test compares.
QUANTILES = (
    *(6.313751514675037, 2.9199855803537242, 2.3533634348018233, 2.1318467863266495, 2.0150483733330233),
    *(1.9431802805153042, 1.8945786050900062, 1.8595480375308973, 1.833112932656237, 1.8124611228116756),
    *(1.7958848187040433, 1.782287555649319, 1.7709333959868725, 1.761310135774891, 1.753050355692572),
    *(1.7458836762762495, 1.7396067260750725, 1.7340636066175388, 1.7291328115213682, 1.7247182429207866),
    *(1.720742902811878, 1.7171443743802424, 1.713871527747048, 1.710882079909428, 1.7081407612518986),
    *(1.7056179197592727, 1.7032884457221265, 1.7011309342659313, 1.6991270265334972, 1.697260886593957),
)


class ScoredWindow(NamedTuple):
    """The window [start, end) with `labelled` rows: mean losses by package digest, and the digest of what answered most of it. `events`
    are the numbers of the ledger's events."""

    start: str
    end: str
    loss: str
    labelled: int
    losses: Mapping[str, float]
    served: str
    events: tuple[int, ...]


def scored_windows(ledger: Ledger, model: str, loss: str = "") -> list[ScoredWindow]:
    """The windows of a model in that loss, in their order; '' is that of the newest one, as losses of two units have no sum. Of several scores
    of the same version the first counts."""
    of: dict[tuple[str, str, str], list[list[Any]]] = {}
    rows = rolled_up(ledger, WINDOWS, model=model)[WINDOWS]
    for row in rows:
        if row[4] == (loss or rows[-1][4]):
            of.setdefault((row[2], row[3], row[4]), []).append(row)
    return [_window(rows) for _, rows in sorted(of.items())]


def _window(rows: Sequence[Sequence[Any]]) -> ScoredWindow:
    """Of the rows of the roll-up that are about it."""
    _, seq, start, end, loss, labelled, losses, served = rows[0]
    if len(rows) == 1:
        return ScoredWindow(start, end, loss, labelled, losses, served, (seq,))
    all_losses: dict[str, Any] = {}
    for row in reversed(rows):
        all_losses |= row[6]
    served = next((row[7] for row in rows if row[7]), "")
    return ScoredWindow(start, end, loss, labelled, all_losses, served, tuple(row[1] for row in rows))


def unit(economics: Economics, windows: Sequence[ScoredWindow]) -> tuple[float, Literal["yours", "guess"]]:
    """The money of one unit of the windows' loss on one row, and how it is known. Where the loss is money it is 1, also of a model that is in
    params.yaml no more."""
    return (1.0, "yours") if windows and windows[-1].loss.partition(" ")[0] == MONEY else economics.unit


@dataclass(frozen=True)
class Gain:
    """A sum over `windows` windows with `rows` labelled rows, in money, and its interval of 90 %: None with a single window."""

    saved: float
    low: float | None
    high: float | None
    windows: int
    rows: int
    events: tuple[int, ...]


def gain(windows: Sequence[ScoredWindow], new: str, old: str, value: float) -> Gain | None:
    """What `new` lost less than `old`, both digests, where both have a loss; None where no window has both. A row's unit costs `value`."""
    both = [window for window in windows if new in window.losses and old in window.losses]
    if not both:
        return None
    gains = [(window.losses[old] - window.losses[new]) * window.labelled * value for window in both]
    saved, count = sum(gains), len(gains)
    rows, events = sum(window.labelled for window in both), tuple(seq for window in both for seq in window.events)
    if count < 2:
        return Gain(saved, None, None, count, rows, events)
    error = _quantile(count - 1) * statistics.stdev(gains) * math.sqrt(count)
    return Gain(saved, saved - error, saved + error, count, rows, events)


def _quantile(freedom: int) -> float:
    if freedom <= len(QUANTILES):
        return QUANTILES[freedom - 1]
    from scipy.special import stdtrit

    return float(stdtrit(freedom, UPPER))
