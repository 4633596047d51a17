"""The page of a backtest: what each policy cost, what it had saved by when, and the loss matrix as a heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from pipeline.html.templates import rendered
from pipeline.ledger.decision_events import BacktestDrawn, Backtested

WIDTH, HEIGHT, SIDE = 900.0, 240.0, 600
# Lines of this many policies can be told apart.
COLOURS = ("#2b6cb0", "#b7791f", "#2f855a", "#e53e3e", "#805ad5", "#0e7490", "#d53f8c", "#4d7c0f", "#7c5e3b", "#718096")


def backtest_page(
    model: str, made: Backtested, drawn: BacktestDrawn | None, others: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The page as HTML; one of before pictures were kept has none. `others` are the model's backtests, {"number", "at", "end"}."""
    saved = drawn.saved if drawn is not None else {}
    # A ledger of before has no matrix, and one of very many windows the newest of it.
    losses = _whole(drawn.losses) if drawn is not None else []
    return rendered(
        Path(__file__).with_suffix(".html"),
        {
            **made.body(),
            # A ledger of before has none.
            "economics": {"currency": "", "value": None, **made.economics},
            "model": model,
            "others": others,
            "untrained": drawn.untrained if drawn is not None else {},
            "windows_without_rows": drawn.windows_without_rows if drawn is not None else (),
            "window_starts": drawn.window_starts if drawn is not None else (),
            "width": WIDTH,
            "height": HEIGHT,
            "lines": _lines(saved),
            "zero": _scaled(saved)(0.0),
            "range": _range(saved),
            "side": SIDE,
            "cells": _cells(losses, drawn.window_starts) if drawn is not None and losses else "",
            "ages": [{**point, "high": max(0.0, point["excess"]) / _most(made.curve)} for point in made.curve],
        },
    )


def _whole(losses: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """The rows of the matrix with nothing before their own window."""
    return [[*[None] * (len(losses) - len(row)), *row] for row in losses]


def _range(saved: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    values = [0.0, *(value for line in saved.values() for value in line)]
    return min(values), max(values)


def _scaled(saved: Mapping[str, Sequence[float]]) -> Any:
    low, high = _range(saved)
    return lambda value: HEIGHT * (1 - (value - low) / ((high - low) or 1.0))


def _lines(saved: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """A line of each policy, from nothing saved at the begin."""
    high = _scaled(saved)
    found = []
    for number, (policy, values) in enumerate(saved.items()):
        points = [0.0, *values]
        step = WIDTH / max(len(values), 1)
        path = " ".join(f"{i * step:.1f},{high(value):.1f}" for i, value in enumerate(points))
        found.append({"policy": policy, "points": path, "colour": COLOURS[number % len(COLOURS)], "end": points[-1]})
    return found


def _cells(losses: Sequence[Sequence[float | None]], starts: Sequence[str]) -> Markup:
    """A cell for each version and window: how much more the version lost than the best one that could answer there, by its share of
    the largest such excess but for the highest twentieth. A template takes a while for ten thousand."""
    matrix = np.array(losses, "float64")
    # Window 0 has its own version, so that no column is empty.
    excess = matrix - np.nanmin(matrix, axis=0)
    most = float(np.nanquantile(excess, 0.95)) or 1.0
    opacity = 0.06 + 0.94 * np.minimum(excess / most, 1.0)
    named, side = [escape(start) for start in starts], SIDE / len(starts)
    rows = []
    for v, (lost, more, shade) in enumerate(zip(matrix.tolist(), excess.tolist(), opacity.tolist(), strict=True)):
        own = [
            f'<rect x="{w * side:.2f}" width="{side:.2f}" height="{side:.2f}" fill-opacity="{shade[w]:.2f}">'
            f"<title>as of {named[v]}, window of {named[w]}: {loss:.5g}, {more[w]:.3g} more than the best</title></rect>"
            for w, loss in enumerate(lost)
            if loss == loss
        ]
        rows.append(f'<g transform="translate(0 {v * side:.2f})">{"".join(own)}</g>')
    return Markup(f'<g fill="var(--bar)">{"".join(rows)}</g>')


def _most(curve: Sequence[Mapping[str, Any]]) -> float:
    return max((point["excess"] for point in curve), default=0.0) or 1.0
