"""How much of what a reference's blocks differ by is their own chance, for windows that have more rows than was drawn for them.

A block of n rows has a share p of a cell with the variance p(1 - p)(rho + (1 - rho)/n): rho is what blocks truly differ by, the rest
is the chance of its rows. A window of more rows has less of the second part, and as much of the first. So the distance of a drawn
window from the whole is multiplied by the root of the ratio of both variances; a draw with more rows than the window is thinned instead.

Source: the intraclass correlation by moments, Searle, Casella & McCulloch 1992, Variance components, chapter 3; for counts Weir & Hill
2002, Estimating F-statistics.
"""

from __future__ import annotations

import numpy as np


def between(blocks: np.ndarray) -> np.ndarray:
    """rho of each cell, (cells,), of the counts of one column in each block, (blocks, cells): its estimate and one standard error, since blocks are
    few, and at least that of the column. Blocks may overlap."""
    rows, whole = blocks.sum(axis=1), blocks.sum(axis=0)
    share = whole / max(whole.sum(), 1)
    # What a block's own rows have in the whole; of blocks that overlap it is less than one in so many.
    apart = np.maximum(1 - rows / max(rows.sum(), 1), 0)
    filled = (share > 0) & (share < 1)
    shares = blocks / np.maximum(rows, 1)[:, None]
    variance = np.where(filled, share * (1 - share), 1.0)
    distance = (rows[:, None] * (shares - share) ** 2 / variance).sum(axis=0)
    by_chance, by_blocks = apart.sum(), (apart * np.maximum(rows - 1, 0)).sum()
    if not by_blocks or not filled.any():
        return np.ones(len(share))
    of_cell = (distance - by_chance) / by_blocks
    # Rare cells count as others do: a column's is the mean over its rows.
    of_column = np.average(of_cell[filled], weights=variance[filled])
    by_rows = by_chance / by_blocks
    # Of a variance that is estimated from so many blocks.
    error = np.sqrt(2 / max(len(blocks) - 1, 1)) * (np.maximum(of_cell, of_column) + by_rows)
    return np.clip(np.maximum(of_cell, of_column) + error, 0.0, 1.0)


def at_size(drawn: np.ndarray, blocks: np.ndarray, times: np.ndarray, rows: int) -> np.ndarray:
    """The counts of drawn windows, (draws, cells), each the sum of `times` (draws, blocks) of the blocks (blocks, cells), as far from the whole as
    windows of so many rows are; where a draw has as many rows or more it stays as it is."""
    of_draw = drawn.sum(axis=1, keepdims=True)
    larger = (rows > of_draw).ravel() & (of_draw.ravel() > 0)
    if not larger.any():
        return drawn
    whole = blocks.sum(axis=0) / max(blocks.sum(), 1)
    of_block = blocks.sum(axis=1)
    # A window of several blocks has the mean of what these differ by.
    alone = ((times**2) @ of_block**2 / np.maximum(of_draw.ravel(), 1) ** 2)[:, None]
    rho = between(blocks) * alone
    kept = np.sqrt((rho + 1 / max(rows, 1)) / (rho + 1 / np.maximum(of_draw, 1)))
    nearer = of_draw * whole + kept * (drawn - of_draw * whole)
    # A day that lacks all values of a column lacks them with more rows too, where blocks differ by more than chance does.
    nearer = np.where((drawn == 0) & (rho * of_draw > 1), 0.0, nearer)
    return np.where(larger[:, None], np.maximum(nearer, 0.0), drawn)
