"""Which spans of time in a model's block no label can reach, when labels come some days after their rows.

A held-out row counts only when its label is known at the as-of, and the watch after a rollout has only labels of what was asked since
then: each span must be longer than the labels take. A window of the monitor need not be: live quality looks at the rows whose labels
have matured, however old they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

STATED = "source.label_delay_days"


def unreached(
    model: Any, delay_days: float, most_days: float, labels: str, none: str = "none"
) -> Iterator[tuple[str, str]]:
    """(key below the model's name, why) for each span that is not longer than `delay_days`.

    `labels` says when labels come, and how that is known; within `most_days` most of them do. `none` says how many rows have one.
    """
    holdout, window, watch = model.evaluation.holdout_days, model.source.window_days, model.rollout.watch_days
    enough = f"set more than {most_days:g} days"
    if delay_days >= window:
        between = f"{enough}, and evaluation.holdout_days, now {holdout:g}, in between"
        yield (
            "source.window_days",
            f"is {window:g} days, but {labels}: of its rows {none} has a label at the as-of; {between}",
        )
    elif delay_days >= holdout:
        below = f"{enough} and less than source.window_days, {window:g}"
        yield (
            "evaluation.holdout_days",
            f"is {holdout:g} days, but {labels}: of the held-out rows {none} has a label; {below}",
        )
    if 0 < watch <= delay_days:
        off = f"{enough}, or 0 for no watch"
        yield (
            "rollout.watch_days",
            f"is {watch:g} days, but {labels}: of a new champion's rows {none} has one by then; {off}",
        )


def stated(model: Any) -> Iterator[tuple[str, str]]:
    """The same for the delay that the block states."""
    days = model.source.label_delay_days
    if days:
        yield from unreached(model, days, days, f"labels come {days:g} days after their rows ({STATED})")
