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
from typing import Any

from pipeline.ledger.bodies import bodies
from pipeline.ledger.receipt_events import WindowScored
from pipeline.ledger.store import Ledger

# Of a two-sided interval of 90 %.
UPPER = 0.95


@dataclass(frozen=True)
class ScoredWindow:
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
    """The windows of a model in that loss ('' is any), in their order. Of several scores of the same version the first counts."""
    of: dict[tuple[str, str, str], list[tuple[int, Mapping[str, Any]]]] = {}
    for seq, body in bodies(ledger, WindowScored, model):
        if loss in ("", body["loss"]):
            of.setdefault((body["start"], body["end"], body["loss"]), []).append((seq, body))
    return [_window(scores) for _, scores in sorted(of.items())]


def _window(scores: Sequence[tuple[int, Mapping[str, Any]]]) -> ScoredWindow:
    losses: dict[str, Any] = {}
    for _, body in reversed(scores):
        losses |= body.get("losses", {})
    _, first = scores[0]
    served = next((body["served"] for _, body in scores if body.get("served")), "")
    seqs = tuple(seq for seq, _ in scores)
    return ScoredWindow(first["start"], first["end"], first["loss"], first["labelled"], losses, served, seqs)


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
    from scipy.special import stdtrit

    error = float(stdtrit(count - 1, UPPER)) * statistics.stdev(gains) * math.sqrt(count)
    return Gain(saved, saved - error, saved + error, count, rows, events)
