"""An alarm is an episode: it begins with the look that raises it, goes on over later looks, and ends with the first quiet one.

One alarm asks for at most one retrain. A further feature, or a clearly different change of the same one, is a new alarm. Each look takes
the alarm that the look before it left, so the same look gives the same answer whenever it is repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal

from pipeline.monitoring.change_shape import Shape, alike

# What raises an alarm beside the features.
QUALITY = "live quality"


@dataclass(frozen=True)
class Learnt:
    """What the live version learnt from: the rows from `first` to `last`, with a run as of `as_of`. None where it is not known."""

    version: str
    as_of: datetime | None = None
    first: date | None = None
    last: date | None = None

    def holds(self, start: datetime, end: datetime) -> bool:
        """Whether it learnt from the rows of [start, end)."""
        if self.first is None or self.last is None:
            return False
        return self.first <= start.date() and (end - timedelta(microseconds=1)).date() <= self.last


@dataclass(frozen=True)
class Look:
    """What a look at [start, as_of) saw. `moved` has the shape of the change of each feature, where the verdict is drift or skew; `worse` tells
    whether the answers got worse by more than the limit, None when it is not known."""

    start: datetime
    as_of: datetime
    verdict: Literal["drift", "skew", "no drift", "no verdict"]
    moved: Mapping[str, Shape]
    worse: bool | None
    champion: Learnt
    # Of what moved in a slice alone: its feature.
    base: Mapping[str, str] = field(default_factory=dict)
    # What it has no verdict on, though it has one on others.
    unjudged: Collection[str] = ()

    @property
    def raised(self) -> list[str]:
        return [*self.moved, *([QUALITY] if self.worse else [])]


@dataclass(frozen=True)
class Alarm:
    """The look at [start, since) raised it. `features` has since which look each is changed, and `shapes` how. `fine` is a version trained
    since then whose answers were seen to be right. `ended` is the as-of of the quiet look, '' while it goes on. Times are ISO 8601."""

    since: str
    start: str
    features: Mapping[str, str]
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    fine: str = ""
    ended: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Alarm:
        return cls(**{each.name: body[each.name] for each in fields(cls) if each.name in body})


def after(before: Alarm | None, look: Look) -> Alarm | None:
    """The alarm after the look, by that after the look before; None when there is none."""
    at = look.as_of.isoformat()
    going_on = before if before is not None and not before.ended else None
    if not look.raised:
        # Who saw too little knows of no end.
        quiet = look.verdict == "no drift" and not (going_on and _unseen(going_on, look))
        return replace(going_on, ended=at) if going_on is not None and quiet else going_on
    if going_on is None:
        return Alarm(at, look.start.isoformat(), dict.fromkeys(look.raised, at), dict(look.moved))
    if new := _new(going_on, look):
        since = {name: at if name in new else going_on.features.get(name, at) for name in look.raised}
        return Alarm(at, look.start.isoformat(), since, dict(look.moved))
    fine = look.champion.version if look.worse is False and _trained_since(going_on, look) else going_on.fine
    return replace(going_on, fine=fine)


def _unseen(alarm: Alarm, look: Look) -> list[str]:
    """What the alarm is about and the look saw nothing of."""
    return [name for name in alarm.features if name in look.unjudged or (name == QUALITY and look.worse is None)]


def _new(alarm: Alarm, look: Look) -> list[str]:
    """What the look sees that is not the change of `alarm`.

    Answers that get worse while features go on changed are what the alarm was about, unless the live version, which was trained since,
    had answered rightly before.
    """
    # What is left of a change in one slice is the same change.
    found = [name for name in look.moved if not {name, look.base.get(name, name)} & {*alarm.features}]
    found += [n for n, shape in look.moved.items() if n in alarm.shapes and not alike(shape, alarm.shapes[n])]
    if look.worse and QUALITY not in alarm.features and alarm.fine == look.champion.version:
        found.append(QUALITY)
    return found


def _trained_since(alarm: Alarm, look: Look) -> bool:
    as_of = look.champion.as_of
    return as_of is not None and as_of >= datetime.fromisoformat(alarm.since)


def standing(alarm: Alarm, look: Look, asked: str = "") -> str:
    """Why an alarm that goes on starts no retrain; '' when it does. `asked` is the as-of of an earlier look that asked for one."""
    start, since = datetime.fromisoformat(alarm.start), datetime.fromisoformat(alarm.since)
    live, again = f"version {look.champion.version}", look.as_of > since
    told = f"a retrain was asked for at the look of {day(asked)}" if asked else ""
    days = f"the days from {day(alarm.start)} to {day(alarm.since)}"
    uncured = ", and that did not cure it" if again else ""
    if look.champion.holds(start, since):
        what = f"{live} has already learnt from {days}{uncured}"
    elif _trained_since(alarm, look):
        what = f"{live} was trained as of {day(str(look.champion.as_of))} and holds out a part of {days}{uncured}"
    else:
        what = f"{live} is still live" if asked else ""
    return "; ".join(filter(None, [told, what]))


def back_again(earlier: Alarm, look: Look, asked: str) -> str:
    """Why an alarm that begins anew starts no retrain: the change is that of an earlier alarm, for which one was asked at the look `asked`, and
    the live version was trained since. '' where it is another change, and where answers alone got worse: losses judge those."""
    if look.raised == [QUALITY] or not _trained_since(earlier, look) or _new(earlier, look):
        return ""
    return (
        f"a retrain was asked for at the look of {day(asked)}; version {look.champion.version} was trained on this very change as of "
        f"{day(str(look.champion.as_of))}, and that did not cure it: it is here again"
    )


def day(at: str) -> str:
    """A time as people read it: the minute only where it is not midnight."""
    return at[:16].replace("T", " ").removesuffix(" 00:00")
