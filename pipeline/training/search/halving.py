"""Successive halving: many candidates on few rows, the best third of them on three times as many, and so on (Jamieson and Talwalkar 2016).

The first candidate is what params.yaml says; it goes through every rung, so the choice is never worse than it on the same rows.

The time box would make the choice depend on the machine. So the clock decides two counts and nothing else: how many candidates are drawn,
and after how many fits the search ends. Both are part of the result. With these counts given, no clock is asked, and the same data and
settings give the same choice: so a rebuild gives what the run gave.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

KEPT = 3
FEWEST_ROWS = 1000
MOST_RUNGS = 4

Options = Mapping[str, Any]


class Clock(Protocol):
    """Says when the search has to end."""

    def enough_drawn(self, drawn: int, rungs: int) -> bool: ...
    def over(self, fits: int) -> bool: ...
    def left(self) -> str: ...


@dataclass(frozen=True)
class Fit:
    """One candidate's score on the later rows after a fit on `rows` of the earlier ones; None where it could not be fitted."""

    rung: int
    candidate: int
    rows: int
    score: float | None


def rungs(rows: int) -> list[int]:
    """How many rows each rung learns from, the last one from all."""
    sizes = [rows]
    while len(sizes) < MOST_RUNGS and sizes[0] // KEPT >= FEWEST_ROWS:
        sizes.insert(0, sizes[0] // KEPT)
    return sizes


def search(
    candidates: Iterator[Options],
    score: Callable[[Options, int], float | None],
    rows: int,
    higher_is_better: bool,
    clock: Clock,
    told: Callable[[Fit, Options], None] = lambda fit, options: None,
) -> tuple[list[Options], list[Fit]]:
    """(the candidates that were drawn, their fits in order). `score` fits options on that many rows."""
    sizes = rungs(rows)
    drawn: list[Options] = []
    fits: list[Fit] = []

    def add(rung: int, number: int) -> None:
        fits.append(Fit(rung, number, sizes[rung], score(drawn[number], sizes[rung])))
        told(fits[-1], drawn[number])

    for options in candidates:
        drawn.append(options)
        add(0, len(drawn) - 1)
        if clock.over(len(fits)) or clock.enough_drawn(len(drawn), len(sizes)):
            break
    for rung in range(1, len(sizes)):
        for number in _kept(fits, rung - 1, higher_is_better):
            if clock.over(len(fits)):
                return drawn, fits
            add(rung, number)
    return drawn, fits


def chosen(fits: list[Fit], higher_is_better: bool) -> int:
    """The best candidate of the last rung that was reached. There the best of the rung before it comes first."""
    last = fits[-1].rung
    return min((fit for fit in fits if fit.rung == last), key=lambda fit: _place(fit, higher_is_better)).candidate


def _kept(fits: list[Fit], rung: int, higher_is_better: bool) -> list[int]:
    """The best third of the rung in order, and the first candidate."""
    ranked = sorted((fit for fit in fits if fit.rung == rung), key=lambda fit: _place(fit, higher_is_better))
    best = [fit.candidate for fit in ranked[: math.ceil(len(ranked) / KEPT)] if fit.score is not None]
    return best if 0 in best else [*best, 0]


def _place(fit: Fit, higher_is_better: bool) -> tuple[bool, float, int]:
    score = fit.score
    if score is None or math.isnan(score):
        return True, 0.0, fit.candidate
    return False, -score if higher_is_better else score, fit.candidate
