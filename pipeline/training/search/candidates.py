"""Draws candidates: each from a seed of its own, so that the tenth is the same whether ten are drawn or a hundred."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# So many draws in a row that were there before: a small grid has no more.
REPEATS = 100


def drawn(ranges: Mapping[str, Sequence[Any]], seed: int, most: int) -> Iterator[dict[str, Any]]:
    """Options to lay over those of params.yaml: first none, then different ones, `most` in all."""
    yield {}
    seen: set[tuple[Any, ...]] = set()
    number = repeats = 0
    while len(seen) < most - 1 and repeats < REPEATS:
        random = np.random.default_rng([seed, number])
        options = {name: _value(ranges[name], random) for name in sorted(ranges)}
        number += 1
        if (values := tuple(options.values())) in seen:
            repeats += 1
            continue
        repeats = 0
        seen.add(values)
        yield options


def _value(of: Sequence[Any], random: np.random.Generator) -> Any:
    if of[-1] not in ("log", "linear"):
        return of[int(random.integers(len(of)))]
    low, high, scale = of
    share = float(random.random())
    if isinstance(low, int) and isinstance(high, int):
        # Half a step on each side, so that the ends come as often as what is between them.
        half = 0.5 if low >= 1 or scale == "linear" else 0.0
        return min(high, max(low, round(_between(low - half, high + half, scale, share))))
    # Few digits, so that people can read and write what was chosen.
    return float(f"{_between(low, high, scale, share):.4g}")


def _between(low: float, high: float, scale: str, share: float) -> float:
    if scale == "linear":
        return low + share * (high - low)
    return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
