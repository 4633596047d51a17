"""Tells the rows of now from the reference's by how their numbers go together: a change that no single feature shows.

What a number is by itself, its profile says; weather and season would tell any two weeks apart. So the classifier gets of each number only
what the others do not say: its residual after a regression on them, their squares and products. It learns on every other day of the
reference's weeks that are most like now and of now, and is judged on the days between, both ways round. The null is each week of the
reference against those most like it, by as many rows. It sees no categories, and at most MOST_COLUMNS numbers, those that matter most.

Source: Lopez-Paz & Oquab 2017, Revisiting classifier two-sample tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

NAME = "how the numbers go together"
MEASURE = "AUC"
# Of each week, and of now: so the sample of the reference has enough, and a look takes little time.
BLOCK_ROWS, FEWEST_ROWS = 300, 100
LEAST_WEEKS = 26
NEAREST = 4
MOST_COLUMNS = 12
REGRESSION_ROWS = 4_000
TREES, LEAF_ROWS = 25, 3
RIDGE = 1e-4
SEED = 20130101
# In standard deviations; what is beyond is no longer a matter of how columns go together.
MOST_DEVIATION = 10.0
# As pipeline.monitoring.drift widens the other limits.
WIDENED = 1.5


@dataclass(frozen=True)
class Block:
    """Rows of one week, or of now: numbers, (rows, columns) float64, and the ordinal of each row's day, (rows,)."""

    values: np.ndarray
    days: np.ndarray

    @property
    def enough(self) -> bool:
        """Whether it has enough rows, of several days."""
        return len(self.days) >= FEWEST_ROWS and len(np.unique(self.days)) > 1

    def sampled(self, random: np.random.Generator) -> Block:
        if len(self.days) <= BLOCK_ROWS:
            return self
        taken = np.sort(random.choice(len(self.days), BLOCK_ROWS, replace=False))
        return Block(self.values[taken], self.days[taken])


@dataclass(frozen=True)
class Together:
    """The area under the curve of the classifier between now and the reference, and its limit. `features` tell the two apart, the first
    one most."""

    auc: float
    limit: float
    features: tuple[str, ...]

    @property
    def moved(self) -> bool:
        return self.auc > self.limit

    @property
    def reason(self) -> str:
        told = f"AUC {self.auc:.3f} {'over' if self.moved else 'within'} {self.limit:.3f}"
        return f"{told}, most by {', '.join(self.features)}" if self.moved else told


def block_of(rows: pd.DataFrame, times: pd.Series, columns: Sequence[str]) -> Block:
    """`times` are the rows' event times (UTC)."""
    days = pd.to_datetime(times, utc=True).to_numpy("datetime64[D]").astype("int64")
    values = np.column_stack(
        [pd.to_numeric(rows[name], errors="coerce").to_numpy("float64", na_value=np.nan) for name in columns]
    )
    return Block(np.where(np.isfinite(values), values, np.nan), days)


class DomainClassifier:
    """Of the rows of a reference, which are at least two columns of numbers with their event times."""

    def __init__(self, rows: Block, columns: Sequence[str]) -> None:
        self.columns, random = tuple(columns), np.random.default_rng(SEED)
        week = (rows.days.max() - rows.days) // 7
        cut = [Block(rows.values[week == at], rows.days[week == at]) for at in np.unique(week)]
        weeks = [block.sampled(random) for block in cut if block.enough]
        self.weeks = len(weeks)
        if self.weeks < LEAST_WEEKS:
            return
        every = np.vstack([block.values for block in weeks])
        self._centre = np.nanmean(np.where(np.isnan(every).all(axis=0), 0.0, every), axis=0)
        spread = np.nanstd(np.where(np.isnan(every).all(axis=0), 0.0, every), axis=0)
        self._spread = np.where(spread > 0, spread, np.inf)
        self._edges = [
            np.unique(np.nanquantile(column, np.arange(1, 10) / 10)) for column in every.T if not np.isnan(column).all()
        ]
        self._filled = [place for place, column in enumerate(every.T) if not np.isnan(column).all()]
        self._coefficients = self._regressions(every[random.permutation(len(every))[:REGRESSION_ROWS]])
        self._weeks = [(self._shares(block), self._residuals(block)) for block in weeks]

    def null(self) -> list[float]:
        """The AUC of each of the reference's weeks against the others."""
        found = []
        for place, (shares, week) in enumerate(self._weeks):
            found.append(self._told_apart(week, shares, [*self._weeks[:place], *self._weeks[place + 1 :]])[0])
        return found

    def judged(self, now: Block, null: Sequence[float], share: float) -> Together:
        """Of a window, which may be over the limit without a change in so large a share of looks."""
        block = now.sampled(np.random.default_rng(SEED))
        auc, importances = self._told_apart(self._residuals(block), self._shares(block), self._weeks)
        order = [place for place in np.argsort(-importances) if importances[place] >= 0.5 * importances.max()]
        return Together(auc, limit_of(null, share), tuple(self.columns[place] for place in order[:3]))

    def _regressions(self, values: np.ndarray) -> list[np.ndarray]:
        standard = self._standard(values)
        found = []
        for place in range(len(self.columns)):
            there = ~np.isnan(values[:, place])
            design = _design(standard[there], place)
            ridge = RIDGE * max(len(design), 1) * np.eye(design.shape[1])
            found.append(np.linalg.solve(design.T @ design + ridge, design.T @ standard[there, place]))
        return found

    def _standard(self, values: np.ndarray) -> np.ndarray:
        deviations = np.nan_to_num((values - self._centre) / self._spread)
        return np.clip(deviations, -MOST_DEVIATION, MOST_DEVIATION)

    def _residuals(self, block: Block) -> Block:
        """A missing value is as the others say: that it is missing is another measure's matter."""
        standard = self._standard(block.values)
        residuals = [
            standard[:, place] - _design(standard, place) @ found for place, found in enumerate(self._coefficients)
        ]
        return Block(np.where(np.isnan(block.values), 0.0, np.column_stack(residuals)), block.days)

    def _shares(self, block: Block) -> np.ndarray:
        """Of the rows in each bucket of each column, side by side."""
        counted = []
        for place, edges in zip(self._filled, self._edges, strict=True):
            column = block.values[:, place]
            buckets = np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column))
            counted.append(np.bincount(buckets, minlength=len(edges) + 2) / len(column))
        return np.concatenate(counted)

    def _told_apart(
        self, now: Block, shares: np.ndarray, weeks: Sequence[tuple[np.ndarray, Block]]
    ) -> tuple[float, np.ndarray]:
        """The mean AUC of both ways round, and the mean importance of each column."""
        from sklearn.ensemble import ExtraTreesClassifier
        from sklearn.metrics import roc_auc_score

        order = np.argsort([np.abs(of_week - shares).sum() for of_week, _ in weeks], kind="stable")
        blocks = [*(weeks[place][1] for place in order[:NEAREST]), now]
        values = np.vstack([block.values for block in blocks])
        is_now = np.repeat([0] * NEAREST + [1], [len(block.days) for block in blocks])
        side = np.concatenate([np.unique(block.days, return_inverse=True)[1] % 2 for block in blocks])
        aucs, importances = [], []
        for learnt in (side == 0, side == 1):
            trees = ExtraTreesClassifier(
                TREES, min_samples_leaf=LEAF_ROWS, max_features=None, class_weight="balanced", random_state=0
            )
            trees.fit(values[learnt], is_now[learnt])
            aucs.append(roc_auc_score(is_now[~learnt], trees.predict_proba(values[~learnt])[:, 1]))
            importances.append(trees.feature_importances_)
        return float(np.mean(aucs)), np.mean(importances, axis=0)


def limit_of(null: Sequence[float], share: float) -> float:
    """As that of other measures: the null's quantile, widened, and at most half the way from its largest value to the end."""
    over_chance = float(np.quantile(null, 1 - share)) - 0.5
    return min(0.5 + WIDENED * max(over_chance, 0.0), (max(null) + 1) / 2)


def _design(standard: np.ndarray, place: int) -> np.ndarray:
    """One, the other columns, and their squares and products."""
    others = np.delete(standard, place, axis=1)
    first, second = np.triu_indices(others.shape[1])
    return np.hstack([np.ones((len(standard), 1)), others, others[:, first] * others[:, second]])
