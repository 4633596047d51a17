"""The time lines of a feature: look by look how far each measure was away, as a multiple of its limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# A bar is as high as the distance, up to so many times its limit.
HIGHEST = 3.0
LIMIT = "_limit"
# What is further away in no look is told in words.
FLAT = 0.005
SPELT = {"psi": "PSI", "auc": "AUC", "outside": "outside of all before", "values": "share of values, log ratio"}


@dataclass(frozen=True)
class PastLook:
    """A look at a model: its date, and how far each feature was away from what was learnt, as a multiple of its limit; and each feature's
    figures, as the event of the look has them."""

    on: str
    times_limit: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def time_lines(feature: str, looks: Sequence[PastLook]) -> dict[str, Any]:
    """For the page: `lines` has each measure that was away from 0 in some look, with a bar for each look as a share of the picture's height
    (a look without the feature leaves a gap), and `flat` the names of the others. Nothing of a single look."""
    if len(looks) < 2:
        return {"lines": [], "flat": []}
    measured = [_measured(look.figures.get(feature, {})) for look in looks]
    names = list(dict.fromkeys(name for of in measured for name in of))
    far = [n for n in names if max(_times(of[n]) for of in measured if n in of) >= FLAT]
    lines = [_line(name, looks, [_times(of[name]) if name in of else None for of in measured]) for name in far]
    # The furthest first.
    lines.sort(key=lambda line: -(line["looks"][-1]["times"] or 0.0))
    for line in lines:
        value, limit = measured[-1].get(line["name"], (None, None))
        line |= {"value": value, "limit": limit}
    # Looks of which only the whole is known.
    whole = _line("", looks, [look.times_limit.get(feature) for look in looks])
    return {"lines": lines or [whole], "flat": [name for name in names if name not in far]}


def _line(name: str, looks: Sequence[PastLook], times: Sequence[float | None]) -> dict[str, Any]:
    bars = [
        {"on": look.on, "times": far, "height": None if far is None else min(far, HIGHEST) / HIGHEST}
        for look, far in zip(looks, times, strict=True)
    ]
    return {"name": name, "looks": bars, "value": None, "limit": None}


def _measured(figures: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """The value and the limit of each measure that decided, by its name for people. Of a share the value is the difference."""
    found = {}
    for key, limit in figures.items():
        if not key.endswith(LIMIT) or not limit or key == "times_limit":
            continue
        name = key.removesuffix(LIMIT)
        value = figures.get(name)
        if f"{name}_now" in figures:
            before, now = figures[f"{name}_before"], figures[f"{name}_now"]
            value = abs(now - before) if before is not None and now is not None else None
        if value is not None:
            found[SPELT.get(name, name.replace("_", " "))] = (float(value), float(limit))
    return found


def _times(of: tuple[float, float]) -> float:
    value, limit = of
    return value / limit
