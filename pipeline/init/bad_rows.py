"""The rows that each run will leave out: for a cell that is no number or no time, a missing key, or a key that is there twice at one time."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from typing import Any

from pipeline.init.facts import Facts
from pipeline.init.request import Assumption
from pipeline.init.roles import Roles
from pipeline.training.tasks import TASKS

USUAL = 0.01
NO_NUMBERS, NO_TIMES = "of the cells of {} are no numbers", "of the cells of {} are no times"


def share(training: dict[str, Any], roles: Roles, columns: Mapping[str, Facts], said: list[Assumption]) -> float:
    """The share of rows that may go to quarantine: twice that of today, because what is wrong in a table comes again."""
    bad = _bad(training, roles, columns)
    allowed = round(min(1.0, max(USUAL, 2 * sum(part for part, _, _ in bad))), 4)
    if bad:
        worst, why, flag = max(bad, key=lambda each: each[0])
        why = f"{worst:.2%} {why}: their rows are left out, and counted"
        said.append(Assumption("rows that may be left out", f"{allowed:.2%}", why, flag))
    return allowed


def say_without_time(time: Facts, said: list[Assumption]) -> None:
    """Says how many rows have no event time: they belong to no day, and no run counts them among the bad ones."""
    if without := time.rows - time.filled:
        why = f"{time.name} is missing there, so that they are in no window, and nothing is learnt from them"
        said.append(Assumption("rows without a time", f"{without:,} of {time.rows:,}", why))


def _bad(training: dict[str, Any], roles: Roles, columns: Mapping[str, Facts]) -> list[tuple[float, str, str]]:
    """(share of the rows, what is wrong with them, the flag that keeps them)."""
    of_labels = "positive" in training or TASKS[training["task"]].of_labels
    bad = []
    for each in (columns[name] for name in training.get("numeric", [])):
        bad.append(
            (each.unread / each.rows, NO_NUMBERS.format(each.name), f"--categorical {quote(each.name)} keeps them")
        )
    if not of_labels:
        bad.append((roles.target.unread / roles.target.rows, NO_NUMBERS.format(roles.target.name), ""))
    if weight := roles.weight:
        # A missing feature is one more value, and a row without a weight is none.
        bad.append((1 - weight.numbers / weight.rows, NO_NUMBERS.format(weight.name), ""))
    for each in (each for each in (roles.time, roles.label_time) if each is not None and each.is_time):
        bad.append((_no_times(each), NO_TIMES.format(each.name), ""))
    for each in (columns[name] for name in training.get("datetime", [])):
        bad.append((_no_times(each), NO_TIMES.format(each.name), f"--leave-out {quote(each.name)} keeps them"))
    if key := roles.key:
        bad.append((1 - key.filled / key.rows, f"of the cells of the key {key.name} are missing", ""))
        bad.append((roles.twice / key.rows, f"of the rows have {key.name} and {roles.time.name} of another one", ""))
    return [each for each in bad if each[0] > 0]


def _no_times(each: Facts) -> float:
    return max(0, each.filled - each.times) / each.rows
