"""Is the new model not worse than the champion, on the same rows, which neither was trained on?

The champion answers as its run judged it, before its refit, as the candidate does (judged_champion); an older one through its package. The verdict is a paired test of non-inferiority. Its figure is by how
much the candidate is better; its interval comes from `measured_rows`. `gates.champion_tolerance` is the loss that is accepted.

- It fails when the candidate is worse by more than the tolerance, and the whole interval is below 0. So a model exactly as good as the
  champion is stopped in at most 5 % of runs, and in far fewer where the rows tell more than the tolerance.
- Where a model that is worse by twice the tolerance would not be stopped in 90 % of runs, a figure that is not proven to be within the
  tolerance is no verdict: the rows are too few. The version goes on by its other gates.
- Beside a champion that was trained on days which are held out from the candidate, to be worse is no verdict: it had more to learn from.
- A tolerance of 0 asks for no such power: the gate stops what is proven to be worse, by however little.

A champion that needs a column which the data no longer has cannot be compared. That is no verdict either: failing would stop this run
and every later one, and the gate `schema` has asked a person already.

Source: Piaggio et al. 2012 (CONSORT for non-inferiority); Efron & Tibshirani 1993 (bootstrap).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.gates.measured_rows import Figure, Measured, said
from pipeline.gates.unseen_rows import behind, too_few, unseen_rows
from pipeline.serving.schema import Schema
from pipeline.training.evaluate import shown, shown_gain
from pipeline.training.tasks import METRICS, Answers

if TYPE_CHECKING:
    import pandas as pd

# A model worse by so many tolerances is to be stopped in at least this share of runs.
WORSE, POWER = 2.0, 0.9
# How many standard errors that takes beyond the interval's own: the normal distribution's 90th percentile.
BEYOND = 1.2816
GOES_ON = "the version goes on by its other gates"


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None for a backfill: its model never replaces the champion, and what is live today may not decide what the past
    looked like."""
    if packaged.backfill:
        return None
    version = packaged.champion_version
    if packaged.champion is None:
        reason = f"there is no champion yet{_warned_early(packaged)}"
        return Verdict("champion", True, 0.0, _limit(packaged), reason)
    if missing := _missing(packaged):
        needs = f"needs {', '.join(missing)}, which the data no longer has"
        return _none(packaged, f"not comparable: the champion, version {version}, {needs}")
    if packaged.champion.task != packaged.model.training.task:
        return _none(packaged, f"not comparable: the champion, version {version}, is of task {packaged.champion.task}")
    rows = unseen_rows(packaged)
    if why := too_few(packaged, rows):
        return _none(packaged, why)
    assert rows is not None
    return _compared(packaged, rows)


def _none(packaged: PackagedModel, why: str, by: float = 0.0, interval: tuple[float, float] | None = None) -> Verdict:
    """No verdict, which stops nothing."""
    return Verdict("champion", True, by, _limit(packaged), f"{why}; {GOES_ON}", interval, judged=False)


def _limit(packaged: PackagedModel) -> float:
    return 0.0 - packaged.model.gates.champion_tolerance


def _compared(packaged: PackagedModel, rows: pd.DataFrame) -> Verdict:
    assert packaged.champion is not None
    model, version = packaged.model, packaged.champion_version
    tolerance, metric = model.gates.champion_tolerance, model.evaluation.metric
    measured = Measured.of(model, rows)
    candidate = Answers.of(rows, packaged.package.classes)
    champion = Answers(packaged.compared.predict_frame(rows), packaged.compared.classes)
    scores = measured.score(candidate), measured.score(champion)
    by = measured.gain(candidate, champion, _unit(packaged), packaged.evaluation.trained_rows)
    on = f"the same {len(rows):,} rows, which neither was trained on"
    if not math.isfinite(scores[1]):
        return _none(packaged, f"{on}, do not tell the {metric} of version {version}")
    judged = " as it was judged" if packaged.compared.judged else ""
    told = (
        f"{metric} {shown(metric, scores[0])} against {shown(metric, scores[1])} for version {version}{judged} on {on}: "
        f"{_shown(metric, by)}; {_allowed(metric, tolerance)}"
    )
    if by.interval is None:
        # The candidate's own metric is no number, or a day decides whether there is one.
        if not math.isfinite(by.value):
            return Verdict("champion", False, by.value, _limit(packaged), told)
        return _none(
            packaged, f"{told}; how much chance is in it cannot be told from {measured.blocks.words}", by.value
        )
    if by.value < -tolerance and by.interval[1] < 0:
        if why := behind(packaged):
            return _none(packaged, f"{told}; {why}", by.value, by.interval)
        return Verdict("champion", False, by.value, _limit(packaged), f"{told}; it is proven to be worse", by.interval)
    if by.interval[0] < -tolerance and (needed := _rows_needed(by, tolerance, len(rows))) > len(rows):
        why = f"{told}; too few rows to tell a model that is worse by twice that: about {needed:,} would, "
        return _none(packaged, why + _way_on(packaged, by), by.value, by.interval)
    return Verdict("champion", True, by.value, _limit(packaged), told, by.interval)


def _told(by: Figure) -> float:
    """The smallest tolerance that gets a verdict: of a model that is WORSE tolerances worse, rows with this error would stop POWER."""
    return (by.width + BEYOND) * by.error / WORSE


def _warned_early(packaged: PackagedModel) -> str:
    """That the next comparison may be no verdict, because the tolerance is small beside the metric's own chance on these rows; else ''.

    The difference of two models on the same rows mostly varies by less than the metric of one.
    """
    model = packaged.model
    tolerance = model.gates.champion_tolerance
    if tolerance == 0 or not len(packaged.held_out):
        return ""
    measured = Measured.of(model, packaged.held_out)
    answers = Answers.of(packaged.held_out, packaged.package.classes)
    own = measured.metric_figure(measured.score(answers), answers)
    told = _told(own) / _unit(packaged)
    if not tolerance < told < math.inf:
        return ""
    return (
        f"; {len(packaged.held_out):,} held-out rows of {measured.blocks.words} may be too few for gates.champion_tolerance {tolerance:g}: "
        f"one of {_rounded_up(told):g} is likely to get a verdict, and 0 stops what is proven to be worse, with any number of rows"
    )


def _rounded_up(tolerance: float) -> float:
    """With two digits that count, for people to copy."""
    step = 10.0 ** (math.floor(math.log10(tolerance)) - 1)
    return float(f"{math.ceil(tolerance / step) * step:.2g}")


def _unit(packaged: PackagedModel) -> float:
    """What a difference is a share of: the naive guess's error for a metric in the target's unit, else 1."""
    metric = packaged.model.evaluation.metric
    naive = packaged.evaluation.baseline.get(metric, 0.0)
    return naive if METRICS[metric].in_targets_unit and naive > 0 else 1.0


def _rows_needed(by: Figure, tolerance: float, rows: int) -> int:
    """How many rows like these would stop a model that is WORSE tolerances worse with POWER; 0 for a tolerance of 0, which asks for none."""
    if tolerance == 0:
        return 0
    return math.ceil(rows * (_told(by) / tolerance) ** 2)


def _way_on(packaged: PackagedModel, by: Figure) -> str:
    days = packaged.model.evaluation.holdout_days
    told = _rounded_up(_told(by))
    return f"by a larger evaluation.holdout_days than {days:g}; a gates.champion_tolerance of {told:g} gets a verdict from these"


def _shown(metric: str, by: Figure) -> str:
    how = "better" if by.value >= 0 else "worse"
    interval = None
    if by.interval is not None:
        interval = by.interval if by.value >= 0 else (-by.interval[1], -by.interval[0])
    return f"{shown_gain(metric, abs(by.value))} {how}{said(interval)}"


def _allowed(metric: str, tolerance: float) -> str:
    if tolerance == 0:
        return "stopped when proven to be worse (gates.champion_tolerance 0)"
    return f"at most {shown_gain(metric, tolerance)} worse allowed (gates.champion_tolerance)"


def _missing(packaged: PackagedModel) -> list[str]:
    """The champion's columns that the held-out rows do not have, or have in another kind."""
    assert packaged.champion is not None
    champion, candidate = (_held_as(package.reader.schema) for package in (packaged.champion, packaged.package))
    columns = set(packaged.held_out.columns)
    # A column of the rows that is no feature of the candidate has the champion's kind, as long as it says no other.
    return sorted(name for name, held in champion.items() if name not in columns or candidate.get(name, held) != held)


def _held_as(schema: Schema) -> dict[str, str]:
    """What a column's cells are in the held-out rows: numbers, times, or texts of a kind."""
    return {c.name: "number" if c.kind in ("integer", "boolean") else c.kind for c in schema.columns}
