"""Are decisions alike for the groups of the columns that `gates.fairness.columns` names?

Demographic parity: the largest difference between groups in the share of rows decided yes. Equalised odds: the larger of the largest
differences in that share among rows whose answer is yes, and among those whose answer is no. Both as Fairlearn has them; of several classes
each is a decision of its own, and the worst counts. Groups of few rows differ by chance alone, the more so the more of them are looked at:
a difference stops only where it is also larger than chance makes any of those looked at, 99 times in 100.

Source: Dwork et al. 2012 (parity); Hardt, Price & Srebro 2016 (odds); intervals from resamples of blocks of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from pipeline.gates.base import PackagedModel, Table, Verdict
from pipeline.gates.row_groups import Group, large_and_small
from pipeline.gates.time_blocks import MANY, Blocks, of_times
from pipeline.training import weights
from pipeline.training.tasks import Answers

COLUMNS = ("column", "decision", "measure", "difference", "low", "high", "by chance", "limit", "says")
LEVEL, DRAWS = 0.99, 10_000
RESAMPLES, SEED = 1000, 0
NAMED = 5
MORE_ROWS = "a longer evaluation.holdout_days has more rows"
PARITY, ODDS = "demographic parity", "equalised odds"


@dataclass(frozen=True)
class Difference:
    """One measure of one decision between the groups of one column."""

    column: str
    decision: str
    measure: str
    value: float
    interval: tuple[float, float]
    chance: float
    limit: float

    @property
    def unfair(self) -> bool:
        return self.value > self.limit and self.value > self.chance

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.column}: {self.measure} of {self.decision} differs by {self.value:.3f} [{low:.3f}, {high:.3f}], at most {self.limit:g}, by chance up to {self.chance:.3f}"


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None without `gates.fairness.columns`. The observed figure is the difference that is largest beside its limit."""
    settings = packaged.model.gates.fairness
    if not settings.columns or (settings.demographic_parity is None and settings.equalised_odds is None):
        return None
    compared, small = _groups(packaged)
    more = f" and {len(small) - NAMED:,} more" if len(small) > NAMED else ""
    few = f"not enough rows (gates.fairness.min_rows): {', '.join(small[:NAMED])}{more}" if small else ""
    looks = len(compared) * (len(packaged.package.classes) or 1) * 2
    found = [each for column, groups in compared.items() for each in _differences(packaged, column, groups, looks)]
    if not found:
        why = "; ".join(filter(None, (f"no two groups with {settings.min_rows:,} rows to compare", few, MORE_ROWS)))
        return Verdict("fairness", True, 0.0, 0.0, why, judged=False)
    unfair = [each for each in found if each.unfair]
    most = max(unfair or found, key=lambda each: each.value - each.limit)
    over = most.value > most.limit and not unfair
    reason = "; ".join(map(str, unfair or [most])) + (f"; not proven on these rows, {MORE_ROWS}" if over else "")
    reason += f"; {few}" if few else ""
    table = Table(COLUMNS, tuple(_row(each) for each in found))
    return Verdict("fairness", not unfair, most.value, most.limit, reason, most.interval, judged=not over, table=table)


def _groups(packaged: PackagedModel) -> tuple[dict[str, list[Group]], list[str]]:
    """(the groups of each column that has two of enough rows, those that are too small, in words)."""
    settings, compared, small = packaged.model.gates.fairness, {}, []
    weight = weights.of(packaged.held_out, packaged.model.training, "evaluate")
    counts = np.ones(len(packaged.held_out), bool) if weight is None else weight > 0
    for column in settings.columns:
        large, few = large_and_small(packaged.held_out, column, settings.min_rows)
        groups = [(group, int((group.rows & counts).sum())) for group in large]
        enough = [group for group, rows in groups if rows >= settings.min_rows]
        few += [(str(group), rows) for group, rows in groups if rows < settings.min_rows]
        small += [f"{name} ({rows:,})" for name, rows in few]
        if len(enough) > 1:
            compared[column] = enough
    return compared, small


def _row(each: Difference) -> tuple[str | float | None, ...]:
    says = "unfair" if each.unfair else "not proven" if each.value > each.limit else "ok"
    return (each.column, each.decision, each.measure, each.value, *each.interval, each.chance, each.limit, says)


def decisions(packaged: PackagedModel) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(the label, whether each row is decided so, whether it is so), bool (rows,): one for a binary task, else one for each class."""
    answers = Answers.of(packaged.held_out, packaged.package.classes)
    target = packaged.held_out[packaged.model.training.target].to_numpy()
    if not answers.classes:
        label, threshold = packaged.model.training.positive, packaged.model.gates.fairness.threshold
        yield "1" if label is None else str(label), answers.values >= threshold, target == 1
        return
    likeliest = answers.values.argmax(axis=1)
    for place, label in enumerate(answers.classes):
        yield label, likeliest == place, target == label


def _differences(packaged: PackagedModel, column: str, groups: list[Group], looks: int) -> Iterator[Difference]:
    """The measures of each decision between these groups, of `looks` in all."""
    settings, held_out = packaged.model.gates.fairness, packaged.held_out
    weight = weights.of(held_out, packaged.model.training, "evaluate")
    inside = np.any([group.rows for group in groups], axis=0)
    place = np.argmax([group.rows for group in groups], axis=0)[inside]
    count = (np.ones(len(held_out)) if weight is None else weight)[inside]
    blocks = of_times(held_out[packaged.model.source.event_time], MANY)
    blocks = replace(blocks, of_row=blocks.of_row[inside])
    for label, decided, so in decisions(packaged):
        decided, so = decided[inside], so[inside]
        for measure, of, limit, among in (
            (PARITY, parity, settings.demographic_parity, [np.ones(len(so), bool)]),
            (ODDS, odds, settings.equalised_odds, [so, ~so]),
        ):
            # Without a row of an answer nobody can compare how that answer is decided.
            if limit is None or not all((count[rows] > 0).any() for rows in among):
                continue
            value = of(so, decided, place, count)
            interval = _around(value, _quantiles(decided, place, count, blocks, among))
            yield Difference(
                column, label, measure, value, interval, _chance(decided, place, count, among, looks), limit
            )


def _farthest(decided: np.ndarray, groups: np.ndarray, weight: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The rows of the two groups whose shares decided yes are farthest apart `among` these rows, bool (rows,); none of fewer groups.

    A group without such a row has no share. Fairlearn would take it for 0, and asks each group for itself, which takes long for many.
    """
    there = np.bincount(groups[among], weight[among])
    known = np.flatnonzero(there > 0)
    if len(known) < 2:
        return np.zeros(len(groups), bool)
    share = np.bincount(groups[among], (decided * weight)[among], len(there))[known] / there[known]
    return np.isin(groups, known[[share.argmin(), share.argmax()]])


def parity(so: np.ndarray, decided: np.ndarray, groups: np.ndarray, weight: np.ndarray) -> float:
    """Fairlearn's demographic parity difference."""
    from fairlearn.metrics import demographic_parity_difference

    return _between(demographic_parity_difference, so, decided, groups, weight, np.ones(len(so), bool))


def odds(so: np.ndarray, decided: np.ndarray, groups: np.ndarray, weight: np.ndarray) -> float:
    """Fairlearn's equalised odds difference, of the groups that have rows of that answer."""
    from fairlearn.metrics import false_positive_rate_difference, true_positive_rate_difference

    of = ((true_positive_rate_difference, so), (false_positive_rate_difference, ~so))
    return max(_between(measure, so, decided, groups, weight, among) for measure, among in of)


def _between(
    measure: Callable[..., float],
    so: np.ndarray,
    decided: np.ndarray,
    groups: np.ndarray,
    weight: np.ndarray,
    among: np.ndarray,
) -> float:
    two = _farthest(decided, groups, weight, among)
    if not two.any():
        return 0.0
    numbers = (so[two].astype(int), decided[two].astype(int))
    return float(measure(*numbers, sensitive_features=groups[two], sample_weight=weight[two]))


def _quantiles(
    decided: np.ndarray, groups: np.ndarray, weight: np.ndarray, blocks: Blocks, among: list[np.ndarray]
) -> np.ndarray:
    """The 2.5 and 97.5 % quantiles of the difference in resamples: the largest one in the share decided yes among any of the rows."""
    count, of = blocks.count, int(groups.max()) + 1
    drawn, largest = blocks.drawn(RESAMPLES), np.zeros(1)
    for rows in among:
        cell = (blocks.of_row * of + groups)[rows]
        yes = np.bincount(cell, (decided * weight)[rows], count * of).reshape(count, of)
        all_ = np.bincount(cell, weight[rows], count * of).reshape(count, of)
        some = all_.sum(axis=0) > 0
        if some.sum() < 2:
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (drawn @ yes[:, some]) / (drawn @ all_[:, some])
        # A group that a draw lacks has no share in it.
        high, low = np.nan_to_num(share, nan=-np.inf).max(axis=1), np.nan_to_num(share, nan=np.inf).min(axis=1)
        largest = np.maximum(largest, np.where(high >= low, high - low, 0.0))
    return np.quantile(largest, (0.025, 0.975))


def _chance(decided: np.ndarray, groups: np.ndarray, weight: np.ndarray, among: list[np.ndarray], looks: int) -> float:
    """What the difference stays below, LEVEL of the time in all `looks`, where each group is decided alike."""
    random, largest = np.random.default_rng(SEED), np.zeros(1)
    for rows in among:
        share = float(np.average(decided[rows], weights=weight[rows])) if weight[rows].any() else 0.0
        sums, squares = (np.bincount(groups[rows], weight[rows] ** power) for power in (1, 2))
        there = sums > 0
        error = np.sqrt(share * (1 - share) * squares[there]) / sums[there]
        if not there.any():
            continue
        drawn = random.normal(0, error, (DRAWS, int(there.sum())))
        largest = np.maximum(largest, drawn.max(axis=1) - drawn.min(axis=1))
    return min(1.0, float(np.quantile(largest, LEVEL ** (1 / looks))))


def _around(value: float, quantiles: np.ndarray) -> tuple[float, float]:
    """The basic interval: a resample's largest difference is too large by as much as the sample's own may be."""
    return max(0.0, float(2 * value - quantiles[1])), max(value, float(2 * value - quantiles[0]))
