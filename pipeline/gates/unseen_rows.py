"""The held-out rows that the champion was not trained on either.

Of a champion as it was judged (judged_champion) these are mostly all. A package says up to which event time its rows went, `trained_to` in its manifest; of an older package MLflow's record of its run says
it. The candidate was trained on no held-out row. So after `evaluation.holdout_days` was raised, or for a champion that was fitted again
on all rows, the two are compared on the newest of the held-out rows alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline.gates.base import PackagedModel

if TYPE_CHECKING:
    import pandas as pd


def unseen_rows(packaged: PackagedModel) -> pd.DataFrame | None:
    """The held-out rows whose event time is not before the champion's `trained_to`; None where nobody knows that time."""
    trained_to = packaged.compared.trained_to
    if trained_to is None:
        return None
    held_out = packaged.held_out
    return held_out[held_out[packaged.model.source.event_time] >= trained_to]


def too_few(packaged: PackagedModel, rows: pd.DataFrame | None) -> str:
    """Why the two cannot be compared on these `rows`, and what will change that; '' when there are enough."""
    version, limit = packaged.champion_version, packaged.model.evaluation.min_holdout_rows
    if rows is None:
        return (
            f"neither its package nor MLflow says which rows version {version} was trained on, so no row is known to be new to it; "
            "the next version is compared with this one, whose package says it"
        )
    weight = packaged.model.training.weight
    count = len(rows) if weight is None else int((rows[weight] > 0).sum())
    if count >= limit:
        return ""
    return (
        f"version {version} was trained on rows up to {packaged.compared.trained_to:%Y-%m-%d %H:%M} UTC, and {count:,} of the "
        f"{len(packaged.held_out):,} held-out rows are newer, at least {limit:,} required (evaluation.min_holdout_rows); a run of a "
        "later as-of has more of them"
    )


def behind(packaged: PackagedModel) -> str:
    """Why a loss beside the champion is none of the candidate: the champion was trained on days that are held out from it. '' where it was not.

    So it is after `evaluation.holdout_days` was raised, and beside an old champion that only its package is known of: the candidate was
    judged with fewer and older rows, and what is served learns from all of them.
    """
    trained_to, held_out_from = packaged.compared.trained_to, packaged.model.held_out_from
    if trained_to is None or trained_to - held_out_from < timedelta(days=1):
        return ""
    days = (trained_to - held_out_from) / timedelta(days=1)
    return (
        f"version {packaged.champion_version} was trained on {days:.3g} days that are held out from this one (evaluation.holdout_days), which "
        "may be all that makes it better; a run of an as-of so much later is compared with it"
    )
