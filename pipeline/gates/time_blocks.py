"""Rows in blocks of time, and how often each block is drawn in a bootstrap.

Rows of one day go together, so whole days are drawn, with replacement. A few days say little about how days differ: then the rows are
cut into slices of equal size in order of time, which are more and shorter.

Source: Künsch 1989 (blocks of a bootstrap); Efron & Tibshirani 1993, chapter 8.6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

DRAWS = 500
# Of fewer days the slices are taken; neighbouring days are put together where there are more than MOST.
FEWEST_DAYS, SLICES, MOST = 10, 20, 60
# Of fewer blocks nobody knows how they differ.
FEWEST_BLOCKS = 5
# The same rows give the same verdict each time.
SEED = 20_240_229


@dataclass(frozen=True)
class Blocks:
    """`of_row` is the number of each row's block, int (rows,); `words` says what the `count` blocks are."""

    of_row: np.ndarray
    count: int
    words: str

    def sums(self, values: np.ndarray) -> np.ndarray:
        """The sum of the rows' values (rows,) in each block, (blocks,)."""
        return np.bincount(self.of_row, weights=values, minlength=self.count)

    def drawn(self) -> np.ndarray:
        """How often each block is in each draw, float64 (draws, blocks)."""
        rng = np.random.default_rng(SEED)
        return rng.multinomial(self.count, np.full(self.count, 1 / self.count), size=DRAWS).astype("float64")


def of_times(times: pd.Series) -> Blocks:
    """The blocks of rows with these event times."""
    moments = times.to_numpy("datetime64[us]")
    days, of_row = np.unique(moments.astype("datetime64[D]"), return_inverse=True)
    if len(days) >= FEWEST_DAYS:
        together = -(-len(days) // MOST)
        count = -(-len(days) // together)
        return Blocks(of_row // together, count, f"{count} days" if together == 1 else f"{count} times {together} days")
    count = min(SLICES, len(moments))
    place = np.empty(len(moments), "int64")
    place[np.argsort(moments, kind="stable")] = np.arange(len(moments)) * count // max(len(moments), 1)
    return Blocks(place, count, f"{count} slices of {len(days)} day{'s' if len(days) != 1 else ''}")
