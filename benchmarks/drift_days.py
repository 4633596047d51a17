"""Drift, day by day: on which days of 2013 the flights are unlike the rest of the year, and what the seasons do to a reference of half a year.

Each day is a look by the product's own code, against a reference without the day's own week. Draws docs/drift-2013.svg.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import pandas as pd

from benchmarks.drift import flights
from benchmarks.drift_faults import CATEGORICAL, NUMERIC
from benchmarks.drift_look import LOOKS
from pipeline.monitoring.drift import DriftVerdict, Window, compare
from pipeline.monitoring.profiles.reference import Reference, reference_of
from pipeline.settings.environment import Environment
from pipeline.settings.models import DriftLimits

PICTURE = Path("docs") / "drift-2013.svg"
HALF = date(2013, 7, 1)
# A day's neighbours, whose weather is its own.
APART = timedelta(days=3)
WIDTH, HEIGHT, BASE, HIGHEST = 3, 120, 30, 3.0


@dataclass(frozen=True)
class Look:
    """One day against the rest of the year, and a day after June against the half year before it."""

    day: date
    year: DriftVerdict
    half: DriftVerdict | None

    @property
    def times_limit(self) -> float:
        return max((feature.times_limit for feature in self.year.features), default=0.0)


def main() -> None:
    rows = pd.concat(flights(), ignore_index=True)
    looks = list(_looks(reference_of(rows, NUMERIC, CATEGORICAL, rows["at"])))
    usual = rows[NUMERIC].mean()
    by_day = dict(iter(rows.groupby(rows["at"].dt.date)))
    for look in looks:
        if look.year.verdict == "drift":
            print(_told(look, by_day[look.day], usual))
    _seasons([look for look in looks if look.half])
    file = Environment.read().project / PICTURE
    file.write_text(_picture(looks), encoding="utf-8")
    print(f"{file.name} is drawn; {sum(look.year.verdict == 'drift' for look in looks)} of {len(looks)} days alarm")


def _looks(whole: Reference) -> Iterator[Look]:
    half = replace(whole, days={at: profile for at, profile in whole.days.items() if at < HALF})
    for day, profile in whole.days.items():
        window = Window(profile, 1, day, day + timedelta(days=1))
        rest = replace(whole, days={at: p for at, p in whole.days.items() if abs(at - day) > APART})
        against_half = compare(half, window, DriftLimits(), LOOKS) if day >= HALF else None
        yield Look(day, compare(rest, window, DriftLimits(), LOOKS), against_half)


def _told(look: Look, rows: pd.DataFrame, usual: pd.Series) -> str:
    means = {name: f"{name} {rows[name].mean():.3g} on average ({usual[name]:.3g} in the year)" for name in NUMERIC}
    moved = [f"{means.get(f.feature, f.feature)}: {f.reason}" for f in look.year.moved]
    return f"{look.day:%a %d %b}: {len(rows):,} flights, {rows['late'].mean():.0%} late; {'; '.join(moved)}"


def _seasons(looks: list[Look]) -> None:
    """How many days of each month alarm against January to June, and by which features."""
    months: dict[str, list[DriftVerdict]] = {}
    for look in looks:
        if look.half:
            months.setdefault(f"{look.day:%B}", []).append(look.half)
    for month, verdicts in months.items():
        alarms = [verdict for verdict in verdicts if verdict.verdict == "drift"]
        count: Mapping[str, int] = pd.Series([f.feature for v in alarms for f in v.moved]).value_counts().to_dict()
        print(f"{month} against January to June: {len(alarms)} of {len(verdicts)} days alarm: {count}")


def _picture(looks: list[Look]) -> str:
    """A bar a day, as a multiple of its limit; the line is the limit. Days that alarm are dark, and have their date."""
    width = WIDTH * len(looks)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + 2 * BASE}" font-family="sans-serif" font-size="8">',
        f'<rect width="{width}" height="{HEIGHT + 2 * BASE}" fill="#fff"/>',
    ]
    bottom, last = HEIGHT + BASE, -100
    for place, look in enumerate(looks):
        height = HEIGHT * min(look.times_limit, HIGHEST) / HIGHEST
        alarm, x = look.year.verdict == "drift", WIDTH * place
        named = ", ".join(f.feature for f in look.year.moved) or "no alarm"
        colour = "#b3261e" if alarm else "#9db4c0"
        parts.append(
            f'<rect x="{x}" y="{bottom - height:.1f}" width="{WIDTH - 1}" height="{height:.1f}" fill="{colour}">'
            f"<title>{look.day}: {look.times_limit:.2f} times its limit, {named}</title></rect>"
        )
        if look.day.day == 1:
            parts.append(f'<text x="{x}" y="{bottom + 12}">{look.day:%b}</text>')
        # A day's date has no room beside that of the day before.
        if alarm and x - last > 28:
            parts.append(
                f'<text x="{x}" y="{bottom - height - 3:.1f}" fill="#b3261e">{look.day.day} {look.day:%b}</text>'
            )
            last = x
    line = bottom - HEIGHT / HIGHEST
    parts.append(f'<line x1="0" x2="{width}" y1="{line:.1f}" y2="{line:.1f}" stroke="#333" stroke-width="0.5"/>')
    parts.append(
        f'<text x="2" y="{HEIGHT + 2 * BASE - 5}">The feature that is furthest beyond its limit, day by day of 2013; the line is the limit</text>'
    )
    return "\n".join([*parts, "</svg>", ""])
