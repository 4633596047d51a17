"""The shape of a feature's change: where its rows went. Two looks see the same change when their shapes point the same way.

A change that is in half of a window only has the same shape as the whole one, at half the size. So the angle between two shapes is
compared and not their size. A number's shape is the difference of the two cumulative shares at the reference's edges, in the number's own
unit: the edges of another version's reference are other ones, and the shapes can be compared all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.monitoring.profiles.layout import SPECIAL, ColumnLayout

# A cosine below this is clearly another change.
ALIKE = 0.5
Shape = Mapping[str, Any]


def shape_of(column: ColumnLayout, before: np.ndarray, now: np.ndarray) -> dict[str, Any]:
    """The shape of a change between two counts of a column's cells. `edges` and `below` are of a number: at each edge by how much the share
    of the rows up to it has grown. `cells` has the growth of the share of each category, and of each special cell, that is not 0."""
    change = now / max(now.sum(), 1) - before / max(before.sum(), 1)
    named = {name: change[column.special(name)] for name in SPECIAL}
    below: list[float] = []
    if column.kind == "number":
        below = [round(float(by), 4) for by in np.cumsum(change[: len(column.edges)])]
    else:
        named |= {column.bucket_name(bucket): change[bucket] for bucket in range(column.buckets)}
    cells = {name: round(float(by), 4) for name, by in named.items() if round(float(by), 4)}
    return {"edges": [float(f"{edge:.6g}") for edge in column.edges], "below": below, "cells": cells}


def alike(one: Shape, other: Shape) -> bool:
    """Whether the two are the same change, as far as shapes tell. A shape of nothing is like all others."""
    lengths = _product(one, one) * _product(other, other)
    return lengths <= 0 or _product(one, other) >= ALIKE * np.sqrt(lengths)


def _product(one: Shape, other: Shape) -> float:
    product = sum(by * other["cells"].get(name, 0.0) for name, by in one["cells"].items())
    if one["edges"] and other["edges"]:
        grid = np.union1d(one["edges"], other["edges"])
        # Beyond its outer edges a shape says nothing new.
        first, second = (np.interp(grid, shape["edges"], shape["below"]) for shape in (one, other))
        product += float(np.mean(first * second))
    return product
