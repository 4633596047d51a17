"""Into how many groups the words of texts are sorted: by what is measured, because it depends on the table.

Words that share a group cannot be told apart. In 1,200 films the area under the curve was 0.67 with 64 groups, 0.82 with 512. With few
rows more groups are only more noise. So both are scored on the newest rows before the held-out days, which the gates judge by and nothing
may be chosen by. More groups take eight times the memory and the time, so they must be better by MUCH, and in both halves of these rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from pipeline.errors import StageError
from pipeline.init.draft import MORE_GROUPS, WORD_GROUPS
from pipeline.init.request import Draft
from pipeline.settings.models import Model
from pipeline.settings.training import Training
from pipeline.training import evaluate, measured

# The groups of all texts in all rows take so many bytes at most while a model is fitted.
MOST_BYTES = 2**29
MUCH = 0.02
# So many of boosting's trees tell which is better.
BOOSTING, TREES = Training.model_fields["estimator"].default, 40


def with_groups(draft: Draft, frame: pd.DataFrame, is_held_out: np.ndarray) -> Draft:
    """The draft, with MORE_GROUPS where these are better. `frame` has the labelled rows in order of time, and that.

    Times are left out of the comparison.
    """
    from threadpoolctl import threadpool_limits

    model = Model.model_validate(draft.settings)
    if not model.training.text:
        return draft
    if len(frame) * len(model.training.text) * MORE_GROUPS * 8 > MOST_BYTES:
        return _with(draft, WORD_GROUPS, f"{MORE_GROUPS} are not tried with {len(frame):,} rows")
    proxy = {"datetime": (), "calendar": ()} | (
        {"options": {**model.training.options, "max_iter": TREES}} if model.training.estimator == BOOSTING else {}
    )
    few, more = (
        model.model_copy(update={"training": model.training.model_copy(update=proxy | {"words": groups})})
        for groups in (WORD_GROUPS, MORE_GROUPS)
    )
    parts = measured.parts_to_score(frame[~is_held_out], few)
    if parts is None:
        return draft
    try:
        # As for small_table: threads that wait for each other cost more.
        with threadpool_limits(1):
            scores = measured.compared([(few, None), (more, None)], *parts)
    except StageError:
        # The run says what is wrong.
        return draft
    metric = model.evaluation.metric
    best = measured.best_of(metric, scores, MUCH)
    first, second = (evaluate.shown(metric, score.of_all) for score in scores)
    why = f"{metric} {first} with {WORD_GROUPS} and {second} with {MORE_GROUPS} on the {len(parts[1]):,} newest rows before the held-out days"
    return _with(draft, (WORD_GROUPS, MORE_GROUPS)[best], why)


def _with(draft: Draft, groups: int, why: str) -> Draft:
    said = [
        replace(each, chosen=f"{groups} groups", why=f"{each.why}; {why}") if each.what == "words" else each
        for each in draft.assumptions
    ]
    settings = draft.settings | {"training": draft.settings["training"] | {"words": groups}}
    return replace(draft, settings=settings, assumptions=said)
