"""What is wrong with the flags themselves, said by the flag: not by a key of params.yaml that nobody has written yet."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import DataError, SettingsError
from pipeline.init.facts import Facts
from pipeline.init.request import Request
from pipeline.settings.cron import Cron
from pipeline.settings.times import LONGEST_DAYS, ZoneName

KINDS = ("numeric", "categorical", "datetime", "text")
# A column of which less can be read is none of that kind; the snapshot refuses it too.
LEAST_READ = 0.5


def refuse_wrong(request: Request) -> None:
    """Raises SettingsError for a flag whose value is wrong whatever the table is."""
    try:
        TypeAdapter(ZoneName).validate_python(request.timezone)
    except ValidationError as error:
        raise SettingsError(
            f"--timezone {request.timezone}", "is no time zone", "write it like Europe/Berlin or UTC"
        ) from error
    if request.cron is not None:
        try:
            TypeAdapter(Cron).validate_python(request.cron)
        except ValidationError as error:
            what = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise SettingsError(f"--cron {request.cron}", what, "write it like '0 6 * * *'") from error
    for flag, days in (("--window-days", request.window_days), ("--holdout-days", request.holdout_days)):
        if days is not None and not 0 < days <= LONGEST_DAYS:
            raise SettingsError(
                f"{flag} {days:g}", "is no number of days", f"give more than 0, at most {LONGEST_DAYS:,}"
            )
    if request.window_days and request.holdout_days and request.holdout_days >= request.window_days:
        raise SettingsError(
            f"--holdout-days {request.holdout_days:g}",
            f"leaves nothing of --window-days {request.window_days:g} to train on",
            "give fewer days, or a longer window",
        )
    _refuse_named_twice(request)


def _refuse_named_twice(request: Request) -> None:
    for name in ("time", "label_time", "weight"):
        if getattr(request, name) == request.target:
            raise SettingsError(f"--{_flag(name)} {request.target}", "is the target", "name another column")
    named = [(kind, name) for kind in (*KINDS, "leave_out") for name in getattr(request, kind)]
    for kind, name in named:
        if others := [other for other, same in named if same == name and other != kind]:
            raise SettingsError(f"--{_flag(kind)} {name}", f"is under --{_flag(others[0])} too", "name it once")


def refuse_unfit(request: Request, facts: Mapping[str, Facts], taken: Mapping[str, str]) -> None:
    """Raises SettingsError or DataError for a flag that names what the column is not; `taken` says what else a column is."""
    for kind in (*KINDS, "leave_out"):
        for name in getattr(request, kind):
            if name in taken:
                raise SettingsError(
                    f"--{_flag(kind)} {name}", f"is {taken[name]} already, and never a feature", "leave the flag out"
                )
    read = {
        "numeric": ("a number", lambda each: each.numbers + each.truths),
        "datetime": ("a time", lambda each: each.times),
    }
    for kind, (what, cells) in read.items():
        for name in getattr(request, kind):
            each = facts[name]
            if each.type == "VARCHAR" and each.filled and cells(each) < LEAST_READ * each.filled:
                raise DataError(
                    f"--{kind} {name}",
                    f"is {what} in {cells(each):,} of {each.filled:,} cells; one is {each.example!r:.40}",
                    "use --categorical or --text for it",
                )


def _flag(kind: str) -> str:
    return kind.replace("_", "-")
