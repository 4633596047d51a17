"""Which column is the key, the times and the target, and which are features: each choice with its reason."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.data.neutral_sql import unfit_category
from pipeline.errors import DataError, SettingsError
from pipeline.init import alike, counts, flags, row_weights, target_labels, time_forms, units
from pipeline.init.facts import Facts
from pipeline.init.features import choose, goes_on, has_age
from pipeline.init.looks import Looks
from pipeline.init.odd_cells import OddCells
from pipeline.init.request import Assumption, LeftOut, Request
from pipeline.serving.schema.spelling import WORDS
from pipeline.settings.columns import one_name
from pipeline.training.tasks import TASKS
from pipeline.training.tasks.binary import Binary
from pipeline.training.tasks.multiclass import Multiclass
from pipeline.training.tasks.regression import Regression

NAMES_OF_KEYS = re.compile(r"(^|[_ -])(id|key|uuid|guid|number|no|nr)$|(?<=[a-z])(Id|ID|Key)$", re.IGNORECASE)
NAMES_OF_TIMES = re.compile(r"(^|[_ -])(at|on|ts|time|timestamp|date|epoch)$|(?<=[a-z])(At|Time|Date)$", re.IGNORECASE)
NAMES_OF_LABEL_TIMES = re.compile(
    r"label|decided|closed|resolved|outcome|result|churned|returned|paid|landed|ended", re.IGNORECASE
)
LARGEST_KEY, FEWEST_KEYS = 128, 10
# More labels than this are rather names or texts, and more numbers rather amounts; a class needs rows to be learnt from.
MOST_CLASSES, MOST_NUMBERED_CLASSES, ROWS_OF_A_CLASS = 20, 10, 20


@dataclass(frozen=True)
class Roles:
    """The columns by what they are for; `features` by the list of params.yaml. Of these `ages` are the times whose age is one more, and
    whether each goes on with the event time. `counts` says whether the target counts things, and `twice` how many rows have the key and
    the event time of another."""

    time: Facts
    target: Facts
    task: str
    positive: str | None
    key: Facts | None
    label_time: Facts | None
    weight: Facts | None
    counts: bool
    epoch: str | None
    features: Mapping[str, list[str]]
    ages: Mapping[str, bool]
    assumptions: list[Assumption]
    left_out: list[LeftOut]
    twice: int = 0


def find(request: Request, facts: Mapping[str, Facts], looks: Looks, odd: OddCells) -> Roles:
    """Raises DataError or SettingsError where no choice is right."""
    if not any(each.rows for each in facts.values()):
        raise DataError("--data", "has no rows", "give a table that has some")
    for flag, names in _named(request).items():
        for name in names:
            _require(name, flag, facts)
    odd.refuse_numbers(request)
    said: list[Assumption] = []
    target = target_labels.as_numbers(facts[request.target], looks)
    why_counts = counts.why_counts(target, looks.rows_of_numbers()) if counts.may_count(target) else None
    units.refuse_target(target, odd)
    target_labels.refuse_spellings(request, target, looks, odd)
    target_labels.say_missing(target, looks, odd, said)
    task, positive = _task(request, target, looks, said, why_counts)
    target_labels.say_zeros(target, task, said)
    time = _time(request, facts, odd, said)
    label_time = _label_time(request, facts, time, looks, said)
    taken = {target.name, time.name, *([label_time.name] if label_time else [])}
    key = _key(request, facts, time, taken, looks, said)
    taken |= {key.name} if key else set()
    weight = row_weights.find(request, facts, taken, said)
    taken |= {weight.name} if weight else set()
    flags.refuse_unfit(
        request, facts, dict.fromkeys(taken, "the key, the weight or a time") | {target.name: "the target"}
    )
    units.say(request, facts, taken, odd, said)
    features, left_out = choose(request, facts, taken, time, looks)
    alike.say(features["categorical"], facts, odd, said)
    times = [time, *([label_time] if label_time else []), *(facts[name] for name in features["datetime"])]
    _say_zone(request, times, looks, said)
    epoch = None if time.is_time else time.epoch
    ages = {name: goes_on(facts[name], time) for name in features["datetime"] if has_age(facts[name], time, looks)}
    is_count = why_counts is not None and task == Regression.name
    twice = looks.twice([key.name, time.name]) if key else 0
    return Roles(
        time, target, task, positive, key, label_time, weight, is_count, epoch, features, ages, said, left_out, twice
    )


def _named(request: Request) -> dict[str, Sequence[str]]:
    single: dict[str, str | None] = {
        "--target": request.target,
        "--time": request.time,
        "--key": request.key,
        "--label-time": request.label_time,
        "--weight": request.weight,
    }
    several: dict[str, Sequence[str]] = {
        "--datetime": request.datetime,
        "--text": request.text,
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


def _task(
    request: Request, target: Facts, looks: Looks, said: list[Assumption], why_counts: str | None
) -> tuple[str, str | None]:
    """(task, the label that is 1 or None where labels are 0 and 1, or true and false)."""
    if request.task is not None and request.task not in TASKS:
        raise SettingsError(f"--task {request.task}", "is unknown", f"use {', '.join(TASKS)}")
    if target.filled == 0:
        raise DataError(f"--target {target.name}", "has a value in no row", "name the column that is to be predicted")
    if target.different == 1:
        raise DataError(
            f"--target {target.name}",
            f"is {target.example!r} in every row",
            "nothing can be learnt from it: check the data",
        )
    number = target.is_number and not target.is_truth
    task, why = (request.task, "") if request.task is not None else _likely_task(target, number, why_counts)
    if task == Regression.name:
        if not target.is_number:
            raise DataError(
                f"--target {target.name}",
                f"holds no numbers, e.g. {target.example!r:.60}",
                "use --task binary, or multiclass for three labels or more",
            )
        why = why or f"{target.name} is a number with {target.different:,} different values"
        few = why_counts is not None and target.different <= MOST_CLASSES
        said.append(Assumption("task", task, why, "--task multiclass makes each a class" if few else "--task"))
        return task, None
    if task == Multiclass.name:
        _refuse_no_classes(target)
        why = why or f"{target.name} has {target.different:,} different values"
        said.append(Assumption("task", task, f"{why}: a prediction is a probability for each", "--task"))
        return task, None
    said.append(Assumption("task", "binary", f"{target.name} has two values", "--task"))
    if request.positive is None and (target.is_truth or (number and (target.low, target.high) == (0, 1))):
        one = next((label for label in looks.labels() if WORDS.get(label.lower())), "1")
        said.append(Assumption("positive", one, f"a prediction is its probability in {target.name}", "--positive"))
        return "binary", None
    return "binary", _positive(request, target, looks, said)


def _likely_task(target: Facts, number: bool, why_counts: str | None) -> tuple[str, str]:
    """(the task that the target's values speak for, why)."""
    if number and why_counts is not None:
        return Regression.name, why_counts
    if number and target.different > 2:
        few = target.different <= MOST_NUMBERED_CLASSES and target.whole == target.numbers
        if few and target.filled >= ROWS_OF_A_CLASS * target.different:
            return Multiclass.name, f"{target.name} has only {target.different} different values, all whole numbers"
        return Regression.name, ""
    if not number and not target.is_truth and 2 < target.different <= MOST_CLASSES:
        return Multiclass.name, f"{target.name} has {target.different} labels"
    return Binary.name, ""


def _refuse_no_classes(target: Facts) -> None:
    if target.different == 2:
        raise DataError(
            f"--target {target.name}", "has two labels, and a multiclass task has three or more", "use --task binary"
        )
    if unfit_category(target.type):
        raise DataError(
            f"--target {target.name}", f"holds {target.type}, not one label", "make it a text in a SELECT as --data"
        )


def _positive(request: Request, target: Facts, looks: Looks, said: list[Assumption]) -> str:
    counts = looks.labels()
    if len(counts) > 2:
        labels = ", ".join(repr(label[:40]) for label in list(counts)[:5])
        raise DataError(
            f"--target {target.name}",
            f"has {len(counts):,} labels, {labels}{' …' if len(counts) > 5 else ''}, and a binary task has two",
            "use --task multiclass if each is a class, or leave the rows of others out in a SELECT as --data",
        )
    if request.positive is not None:
        if request.positive not in counts:
            raise DataError(
                f"--positive {request.positive}", f"is no label of {target.name}", f"use one of {', '.join(counts)}"
            )
        return request.positive
    rarer = min(counts, key=lambda label: (counts[label], label))
    why = f"the rarer label, {counts[rarer]:,} of {sum(counts.values()):,}: a prediction is its probability"
    said.append(Assumption("positive", rarer, why, "--positive"))
    return rarer


def _time(request: Request, facts: Mapping[str, Facts], odd: OddCells, said: list[Assumption]) -> Facts:
    if request.time is not None:
        time = facts[request.time]
        if not time.is_time and (time.epoch is None or _is_day(time)):
            time_forms.refuse(f"--time {time.name}", time, odd)
            time_forms.refuse_excel(f"--time {time.name}", time, odd)
            raise DataError(
                f"--time {time.name}",
                f"is a time like 2024-03-01T09:00:00Z in {time.times:,} of {time.filled:,} rows; one is {time.example!r:.60}",
                f"name another column, or make it one in a SELECT as --data: strptime({time.name}, FORMAT)",
            )
    else:
        time = _only_time(request, facts, odd, said)
    if not time.is_time:
        said.append(
            Assumption("times as numbers", f"{time.epoch} since 1970", f"{time.name} is then from 2000 to 2100")
        )
    return time


def _only_time(request: Request, facts: Mapping[str, Facts], odd: OddCells, said: list[Assumption]) -> Facts:
    others = [
        each for each in facts.values() if each.name not in (request.label_time, request.target) and each.different > 1
    ]
    times = [each for each in others if each.is_time] or [
        each for each in others if each.epoch and NAMES_OF_TIMES.search(each.name)
    ]
    for each in others if not times else []:
        time_forms.refuse(f"--data column {each.name}", each, odd)
    if len(times) != 1:
        names = ", ".join(each.name for each in times)
        raise DataError(
            "--time",
            f"is not given, and {f'{len(times)} columns hold times: {names}' if times else 'no column holds times'}",
            "name the column that says when a row's features were known; windows and held-out days go by it",
        )
    said.append(Assumption("event time", times[0].name, "the only column that holds times", "--time"))
    return times[0]


def _is_day(each: Facts) -> bool:
    """Whether whole numbers are days like 20240131 rather than seconds since 1970."""
    return each.low is not None and each.high is not None and each.low >= 19_000_101 and each.high <= 21_001_231


def _say_zone(request: Request, times: Sequence[Facts], looks: Looks, said: list[Assumption]) -> None:
    """A time that names no zone is read in one; rows and labels would move by hours in another."""
    for each in times:
        if each.is_time and (found := looks.without_zone(each)):
            rows, example = found
            some = f" in {rows:,} rows" if rows < each.times else ""
            why = f"{each.name} names none{some}, e.g. {example:.40}"
            said.append(Assumption("time zone", request.timezone, why, "--timezone"))
            return


def _label_time(
    request: Request, facts: Mapping[str, Facts], time: Facts, looks: Looks, said: list[Assumption]
) -> Facts | None:
    if request.label_time is not None:
        given = facts[request.label_time]
        if not (given.is_time or (given.epoch and given.epoch == time.epoch)):
            raise DataError(
                f"--label-time {request.label_time}", "holds no times", "name a column that does, or leave it out"
            )
        if time.is_time and given.is_time and not looks.is_mostly_after(given.name, time.name):
            raise DataError(
                f"--label-time {given.name}",
                f"is before {time.name} in most rows, and a label is not known before its features are",
                "name the time when the answer became known, or leave the flag out",
            )
        return given
    for each in facts.values():
        named = NAMES_OF_LABEL_TIMES.search(each.name) and each.name != time.name
        if named and each.is_time and time.is_time and looks.follows(each.name, time.name):
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
    looks: Looks,
    said: list[Assumption],
) -> Facts | None:
    """None where nothing tells rows apart: they are then known by their time and features."""
    if request.key is not None:
        if request.key in taken - {time.name}:
            raise SettingsError(f"--key {request.key}", "is the target or a time already", "name another column")
        if facts[request.key].digits_lost:
            raise DataError(
                f"--key {request.key}",
                f"holds {facts[request.key].type}, and some are too large for it: their last digits are lost",
                "write the column as BIGINT or as text where the data is made, or name another column",
            )
        return facts[request.key]
    could = [
        each
        for each in facts.values()
        if each.name not in taken and each.name not in _chosen(request) and _may_be_key(each)
    ]
    named = [each for each in could if NAMES_OF_KEYS.search(each.name)]
    # Where times alone tell rows apart, a number of a few values is no name of a row, whatever it is called.
    alone = looks.different([time.name]) >= 0.99 * time.rows
    named = [each for each in named if each.different >= FEWEST_KEYS or not alone]
    for each in sorted(could, key=lambda each: each not in named):
        if each.different == time.rows:
            said.append(Assumption("key", each.name, "it is different in each row", "--key"))
            return each
    for each in named:
        if looks.different([each.name, time.name]) >= 0.99 * time.rows:
            why = f"with {time.name} it tells rows apart"
            said.append(Assumption("key", each.name, why, "--key"))
            return each
    why = f"no column tells rows apart, alone or with {time.name}: they are known by {time.name} and their features"
    said.append(Assumption("key", "none", why, "--key"))
    return None


def _chosen(request: Request) -> set[str]:
    """The columns that the flags make features, or leave out."""
    weights = [request.weight] if request.weight is not None else []
    return {*weights, *request.numeric, *request.categorical, *request.datetime, *request.text, *request.leave_out}


def _may_be_key(each: Facts) -> bool:
    whole = each.numbers == each.whole
    return (
        each.fits
        and whole
        and not each.digits_lost
        and each.filled == each.rows
        and not (each.is_time or each.is_truth or each.is_text)
        and each.longest <= LARGEST_KEY
    )
