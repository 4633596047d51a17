"""Rows in blocks of time, and how often each block is drawn in a bootstrap.

Rows of one day go together, so whole days are drawn, with replacement, and an interval is Student's t with one degree of freedom less than
days: where they are few it is wide. Of fewer days than an asker needs the rows are cut into twenty slices of equal size in order of time. A
single figure needs five days. Gates that look at many groups of rows at once ask for twenty (MANY): intervals that hold for all groups would
be of no use with fewer blocks, for an error of 1 in 10,000 is 8 standard errors away with 6 degrees of freedom, and 4.6 with 19.

Source: Künsch 1989 (blocks of a bootstrap); Efron & Tibshirani 1993, chapter 8.6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

DRAWS = 500
# Of fewer days the slices are taken; neighbouring days are put together where there are more than MOST.
FEWEST_DAYS, MANY, SLICES, MOST = 5, 20, 20, 60
# Of fewer blocks nobody knows how they differ.
FEWEST_BLOCKS = 5
# The same rows give the same verdict each time.
SEED = 20_240_229


@dataclass(frozen=True)
class Blocks:
    """`of_row` is the number of each row's block, int (rows,); `words` says what the `count` blocks are. `freedom` are the degrees of
    freedom of an interval of one figure: slices of a few days know no more of how days differ than the fewest days would."""

    of_row: np.ndarray
    count: int
    words: str
    freedom: int

    def sums(self, values: np.ndarray) -> np.ndarray:
        """The sum of the rows' values (rows,) in each block, (blocks,)."""
        return np.bincount(self.of_row, weights=values, minlength=self.count)

    def drawn(self, draws: int = DRAWS) -> np.ndarray:
        """How often each block is in each draw, float64 (draws, blocks)."""
        rng = np.random.default_rng(SEED)
        return rng.multinomial(self.count, np.full(self.count, 1 / self.count), size=draws).astype("float64")


def of_times(times: pd.Series, fewest_days: int = FEWEST_DAYS) -> Blocks:
    """The blocks of rows with these event times."""
    # Of a time with a zone, `to_numpy` makes an object for each row.
    moments = (times if times.dt.tz is None else times.dt.tz_convert(None)).to_numpy("datetime64[us]")
    days, of_row = np.unique(moments.astype("datetime64[D]"), return_inverse=True)
    if len(days) >= fewest_days:
        together = -(-len(days) // MOST)
        count = -(-len(days) // together)
        words = f"{count} days" if together == 1 else f"{count} times {together} days"
        return Blocks(of_row // together, count, words, count - 1)
    count = min(SLICES, len(moments))
    place = np.empty(len(moments), "int64")
    place[np.argsort(moments, kind="stable")] = np.arange(len(moments)) * count // max(len(moments), 1)
    words = f"{count} slices of {len(days)} day{'s' if len(days) != 1 else ''}"
    return Blocks(place, count, words, FEWEST_DAYS - 1)
