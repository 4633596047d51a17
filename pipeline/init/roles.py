"""Which column is the key, the times and the target, and which are features: each choice with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import DataError, SettingsError
from pipeline.init.facts import Facts
from pipeline.init.request import Assumption, LeftOut, Request
from pipeline.settings.columns import BESIDE_FEATURES, RESERVED, one_name

NAMES_OF_KEYS = re.compile(r"(^|[_ -])(id|key|uuid|guid|number|no|nr)$|(?<=[a-z])(Id|ID|Key)$", re.IGNORECASE)
NAMES_OF_LABEL_TIMES = re.compile(
    r"label|decided|closed|resolved|outcome|result|churned|returned|paid|landed|ended", re.IGNORECASE
)
TASKS = ("binary", "regression")
LARGEST_KEY = 128


@dataclass(frozen=True)
class Roles:
    """The columns by what they are for."""

    time: Facts
    target: Facts
    task: str
    key: Facts
    label_time: Facts | None
    numeric: list[str]
    categorical: list[str]
    assumptions: list[Assumption]
    left_out: list[LeftOut]


# How many different rows there are by these columns.
Different = Callable[[Sequence[str]], int]
# Whether one time column is never before the other, and has a value where the target has one.
Follows = Callable[[str, str], bool]


def find(request: Request, facts: Mapping[str, Facts], different: Different, follows: Follows) -> Roles:
    """Raises DataError or SettingsError where no choice is right."""
    for flag, names in _named(request).items():
        for name in names:
            _require(name, flag, facts)
    said: list[Assumption] = []
    target = facts[request.target]
    task = _task(request, target, said)
    time = _time(request, facts, said)
    label_time = _label_time(request, facts, time, follows, said)
    taken = {target.name, time.name, *([label_time.name] if label_time else [])}
    key = _key(request, facts, time, taken, different, said)
    taken.add(key.name)
    numeric, categorical, left_out = _features(request, facts, taken, time)
    return Roles(time, target, task, key, label_time, numeric, categorical, said, left_out)


def _named(request: Request) -> dict[str, Sequence[str]]:
    single: dict[str, str | None] = {
        "--target": request.target,
        "--time": request.time,
        "--key": request.key,
        "--label-time": request.label_time,
    }
    several: dict[str, Sequence[str]] = {
        "--numeric": request.numeric,
        "--categorical": request.categorical,
        "--leave-out": request.leave_out,
    }
    given: dict[str, Sequence[str]] = {flag: [name] for flag, name in single.items() if name is not None}
    return given | several


def _require(name: str, flag: str, facts: Mapping[str, Facts]) -> None:
    if name not in facts:
        near = [each for each in facts if one_name(each) == one_name(name)]
        advice = f"write it as it is there: {near[0]}" if near else f"its columns are {', '.join(facts)}"
        raise DataError(f"{flag} {name}", "is no column of the data", advice)


def _task(request: Request, target: Facts, said: list[Assumption]) -> str:
    if request.task is not None and request.task not in TASKS:
        raise SettingsError(f"--task {request.task}", "is unknown", f"use {' or '.join(TASKS)}")
    if target.filled == 0:
        raise DataError(f"--target {target.name}", "has a value in no row", "name the column that is to be predicted")
    if target.different == 1:
        raise DataError(
            f"--target {target.name}",
            f"is {target.example!r} in every row",
            "nothing can be learnt from it: check the data",
        )
    binary = target.is_truth or (target.is_number and target.different == 2 and (target.low, target.high) == (0, 1))
    if binary:
        if request.task != "regression":
            said.append(Assumption("task", "binary", f"{target.name} has two values", "--task"))
            return "binary"
    elif target.different == 2 or not target.is_number:
        _refuse_labels(target)
    if request.task == "binary":
        raise DataError(
            f"--target {target.name}",
            f"has {target.different:,} different values, not 0 and 1",
            "give a SELECT as --data that makes it 0 and 1",
        )
    said.append(
        Assumption(
            "task", "regression", f"{target.name} is a number with {target.different:,} different values", "--task"
        )
    )
    return "regression"


def _refuse_labels(target: Facts) -> None:
    observed = f"has {target.different:,} different labels, such as {target.example!r:.60}"
    column = '"' + target.name.replace('"', '""') + '"'
    positive = "'" + target.example.replace("'", "''") + "'"
    raise DataError(
        f"--target {target.name}",
        observed,
        f"say which one is 1 in a SELECT as --data: SELECT * REPLACE (({column} = {positive})::INT AS {column}) FROM …",
    )


def _time(request: Request, facts: Mapping[str, Facts], said: list[Assumption]) -> Facts:
    if request.time is not None:
        time = facts[request.time]
        if not time.is_time:
            raise DataError(
                f"--time {time.name}",
                f"is a time like 2024-03-01T09:00:00Z in {time.times:,} of {time.filled:,} rows; one is {time.example!r:.60}",
                f"name another column, or make it one in a SELECT as --data: strptime({time.name}, '%m/%d/%Y')",
            )
        return time
    times = [each for each in facts.values() if each.is_time and each.different > 1 and each.name != request.label_time]
    if len(times) != 1:
        names = ", ".join(each.name for each in times)
        raise DataError(
            "--time",
            f"is not given, and {f'{len(times)} columns hold times: {names}' if times else 'no column holds times'}",
            "name the column that says when a row's features were known; windows and held-out days go by it",
        )
    said.append(Assumption("event time", times[0].name, "the only column that holds times", "--time"))
    return times[0]


def _label_time(
    request: Request, facts: Mapping[str, Facts], time: Facts, follows: Follows, said: list[Assumption]
) -> Facts | None:
    if request.label_time is not None:
        if not facts[request.label_time].is_time:
            raise DataError(
                f"--label-time {request.label_time}", "holds no times", "name a column that does, or leave it out"
            )
        return facts[request.label_time]
    for each in facts.values():
        named = NAMES_OF_LABEL_TIMES.search(each.name) and each.name != time.name
        if named and each.is_time and follows(each.name, time.name):
            why = f"it is never before {time.name}, and each row with {request.target} has it: a label counts as known from then on"
            said.append(Assumption("label time", each.name, why, "--label-time"))
            return each
    why = f"so {request.target} counts as known at {time.name}; name its column if labels come later"
    said.append(Assumption("label time", "none", why, "--label-time"))
    return None


def _key(
    request: Request,
    facts: Mapping[str, Facts],
    time: Facts,
    taken: set[str],
    different: Different,
    said: list[Assumption],
) -> Facts:
    if request.key is not None:
        if request.key in taken - {time.name}:
            raise SettingsError(f"--key {request.key}", "is the target or a time already", "name another column")
        return facts[request.key]
    rows = time.rows
    could = [
        each
        for each in facts.values()
        if each.name not in taken and each.name not in request.leave_out and _may_be_key(each)
    ]
    named = [each for each in could if NAMES_OF_KEYS.search(each.name)]
    for each in sorted(could, key=lambda each: each not in named):
        if each.different == rows:
            said.append(Assumption("key", each.name, "it is different in each row", "--key"))
            return each
    for each in named:
        if different([each.name, time.name]) >= 0.99 * rows:
            why = f"with {time.name} it tells rows apart"
            said.append(Assumption("key", each.name, why, "--key"))
            return each
    if time.different == rows:
        said.append(Assumption("key", time.name, "no other column tells rows apart, and it does", "--key"))
        return time
    raise DataError(
        "--key",
        f"is not given, and no column, alone or with {time.name}, tells rows apart",
        "name one; labels are joined by it and the event time",
    )


def _may_be_key(each: Facts) -> bool:
    whole = each.numbers == each.whole
    return (
        each.fits
        and whole
        and each.filled == each.rows
        and not (each.is_time or each.is_truth or each.is_text)
        and each.longest <= LARGEST_KEY
    )


def _features(
    request: Request, facts: Mapping[str, Facts], taken: set[str], time: Facts
) -> tuple[list[str], list[str], list[LeftOut]]:
    numeric, categorical, left_out = [], [], []
    for each in facts.values():
        if each.name in taken:
            continue
        if each.name in request.leave_out:
            left_out.append(LeftOut(each.name, "--leave-out names it"))
        elif each.name in request.numeric:
            numeric.append(each.name)
        elif each.name in request.categorical:
            categorical.append(each.name)
        elif why := _unfit(each, time):
            left_out.append(LeftOut(each.name, *why))
        elif each.is_number:
            numeric.append(each.name)
        else:
            categorical.append(each.name)
    if not numeric and not categorical:
        raise DataError(
            "--data", f"has no column to learn {request.target} from", "name features with --numeric or --categorical"
        )
    return numeric, categorical, left_out


def _unfit(each: Facts, time: Facts) -> tuple[str, str] | None:
    """Why a column is no feature, and what to do about it; None for one that is."""
    if one_name(each.name) in RESERVED | BESIDE_FEATURES:
        return "Perennial uses this name itself", "rename it in a SELECT as --data"
    if each.filled == 0:
        return "it has a value in no row", ""
    if not each.fits:
        return f"it holds {each.type}, not one number or text", ""
    if each.different == 1 and each.filled == each.rows:
        return f"it is {each.example!r:.40} in every row", ""
    if each.is_time:
        after = each.last is not None and time.last is not None and each.last > time.last
        why = "it is a time" + (
            f", and may be later than {time.name}: what is known then must not be learnt from" if after else ""
        )
        return why, "list it in training.datetime if it is known by then"
    if each.is_text:
        return "it is free text", "list it in training.text to learn from its length, or give a category made from it"
    if each.identifies:
        return (
            f"it has {each.different:,} different values in {each.filled:,} rows, so it says who, not why",
            "--numeric or --categorical keeps it",
        )
    return None
