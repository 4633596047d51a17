"""How far a metric moves with the rows that were learnt from, where the fit does not minimise that metric.

A fit that minimises squares or log loss is at its best in these, so that new rows to learn from change such a metric by little. The absolute
error of a skewed target, or a decision's F1, is not at its best there: what the fit learnt moves by the chance of its rows, and the metric
goes along. So the answers are moved by as much as a correction of them would, learnt from a draw of days, as in `measured_rows`: one level
for each tenth of the answers, as a tree learns, or one line through all of them, as a linear model does. The larger effect counts. Of a
symmetric target, and of a fit by absolute errors, nothing comes of it.

Source: van der Vaart 1998, Asymptotic Statistics, chapter 20 (the delta method of functionals).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pipeline.gates import resampled
from pipeline.gates.calibration import equal_bins
from pipeline.gates.time_blocks import Blocks
from pipeline.training.tasks import Answers, Task

# From a draw's number to what it adds to the answers, (rows,).
Move = Callable[[int], np.ndarray]
# Metrics that no usual fit has as its loss, and whose best answer is not the mean outcome.
MOVED = ("mae", "pinball", "macro_f1")
# With many answers, of thousands of classes say, fewer draws tell a spread as well, and take less time.
DRAWS, FEWEST_DRAWS, MOST_ANSWERS = 100, 20, 60_000_000


def error(
    task: Task, metric: str, target: np.ndarray, answers: Answers, weight: np.ndarray, blocks: Blocks, learnt: int
) -> float:
    """The standard error of one model's metric from `learnt` new rows to learn from; 0 for another metric than MOVED.

    `target` and `weight` are those of held-out rows, (rows,), and stand for the rows that were learnt from.
    """
    if metric not in MOVED:
        return 0.0
    values = answers.values.reshape(len(target), -1)
    outcomes = target[:, None] == np.array(answers.classes, object) if answers.classes else target[:, None]
    drawn = blocks.drawn(int(np.clip(MOST_ANSWERS // values.size, FEWEST_DRAWS, DRAWS)))
    gaps = [(out - said, said) for out, said in zip(outcomes.T, values.T, strict=True)]
    ways = [[_levels(gap, said, weight, blocks, drawn) for gap, said in gaps]]
    if not answers.classes:
        ways.append([_line(*gaps[0], weight, blocks, drawn)])
    # Of so many rows in place of the held-out ones a mean is off by so much; see also `measured_rows.Measured.figure`.
    size = (len(target) / learnt * blocks.count / (blocks.count - 1)) ** 0.5
    # All rows come first.
    every = np.vstack([np.ones(blocks.count), drawn])

    def on_draws(answered: np.ndarray) -> np.ndarray:
        asked = replace(answers, values=answered.reshape(answers.values.shape))
        found = resampled.values(task, metric, target, asked, weight, blocks, every)
        assert found is not None
        return found

    def variance(moves: list[Move]) -> float:
        base = on_draws(values)
        off = np.array(
            [
                on_draws(values + size * np.column_stack([move(draw) for move in moves])) - base
                for draw in range(len(drawn))
            ]
        )
        # How a move's effect differs from days to days is in the paired draws already.
        return float(np.nanvar(off[:, 0]) - np.nanvar(off[:, 1:], axis=1).mean() * blocks.count / (blocks.count - 1))

    return max(0.0, *(variance(moves) for moves in ways)) ** 0.5


def _levels(gaps: np.ndarray, said: np.ndarray, weight: np.ndarray, blocks: Blocks, drawn: np.ndarray) -> Move:
    """One level for each tenth of the answers `said` (rows,): the mean of its `gaps` in a draw, beside that in all rows."""
    bins = equal_bins(said)
    count = int(bins.max()) + 1
    cell = blocks.of_row * count + bins
    sums, rows = (np.bincount(cell, of, blocks.count * count).reshape(-1, count) for of in (gaps * weight, weight))
    with np.errstate(invalid="ignore", divide="ignore"):
        off = (drawn @ sums) / (drawn @ rows) - sums.sum(axis=0) / rows.sum(axis=0)
    # A draw that lacks a bin tells nothing of it.
    off = np.nan_to_num(off, posinf=0.0, neginf=0.0)
    return lambda draw: off[draw][bins]


def _line(gaps: np.ndarray, said: np.ndarray, weight: np.ndarray, blocks: Blocks, drawn: np.ndarray) -> Move:
    """One line through all answers, by least squares of the `gaps` in a draw, beside that of all rows."""
    place = (said - said.mean()) / (float(said.std()) or 1.0)
    # All rows come first.
    every = np.vstack([np.ones(blocks.count), drawn])
    rows, places, squares, gap, both = (
        every @ blocks.sums(weight * each) for each in (np.ones(len(said)), place, place**2, gaps, gaps * place)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.nan_to_num((rows * both - places * gap) / (rows * squares - places**2), posinf=0.0, neginf=0.0)
        level = np.nan_to_num((gap - slope * places) / rows, posinf=0.0, neginf=0.0)
    return lambda draw: level[draw + 1] - level[0] + (slope[draw + 1] - slope[0]) * place
