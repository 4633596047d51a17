"""What holds a decision to retrain back, whatever the rule says: each guard says so in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pipeline.settings.policy import Policy

A_MONTH = timedelta(days=30)
# No longer than this is a retrain held back because the last one did not cure.
LONGEST_DAYS = 365.0


# The rules that go by losses, which move by noise too. A clock asks for no reason, and an alarm of the inputs is one by itself.
BY_LOSSES = ("value", "budget", "metric", "forecast")


def goes_by_moves(rule: str, look: Mapping[str, Any] | None = None) -> bool:
    """Whether a retrain that the rule asks for is held back where nothing has moved since the last one (retraining/cured.py): one by losses,
    and by the rule `drift` one that a look at them asks for, without an alarm of the inputs."""
    return rule in BY_LOSSES or (rule == "drift" and look is not None and look["verdict"] != "drift")


def guards(
    settings: Policy, name: str, as_of: datetime, asked: Sequence[datetime], trained: datetime | None
) -> list[str]:
    """Those that hold a retrain of the model back at `as_of`. `asked` are the as-ofs of the looks before that asked for one, and `trained`
    is that of the live version."""
    found = []
    cool_down = timedelta(days=settings.cool_down_days)
    recent = [at for at in asked if as_of - cool_down < at < as_of]
    if recent:
        found.append(
            f"a retrain was asked for as of {max(recent):%Y-%m-%d}, and models.{name}.policy.cool_down_days is "
            f"{settings.cool_down_days:g}"
        )
    elif trained is not None and as_of - cool_down < trained <= as_of:
        found.append(
            f"the live version was trained as of {trained:%Y-%m-%d}, and models.{name}.policy.cool_down_days is "
            f"{settings.cool_down_days:g}"
        )
    a_month = [at for at in asked if as_of - A_MONTH < at < as_of]
    if settings.most_a_month is not None and len(a_month) >= settings.most_a_month:
        found.append(
            f"{len(a_month)} retrains were asked for in the 30 days before, and models.{name}.policy.most_a_month is "
            f"{settings.most_a_month}"
        )
    return found


def back_guards(settings: Policy, name: str, as_of: datetime, went: Sequence[datetime]) -> list[str]:
    """The same for going back to a past version; `went` are the as-ofs of the looks before that did. Two versions that are alike would
    take turns."""
    recent = [at for at in went if as_of - timedelta(days=settings.cool_down_days) < at < as_of]
    if not recent:
        return []
    return [
        f"a past version was taken again as of {max(recent):%Y-%m-%d}, and models.{name}.policy.cool_down_days is "
        f"{settings.cool_down_days:g}"
    ]
