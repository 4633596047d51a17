"""Which column says how much a row counts. Only a name that can mean nothing else is taken for one: a parcel has a weight too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from shlex import quote

from pipeline.errors import DataError, SettingsError
from pipeline.init.facts import Facts
from pipeline.init.request import Assumption, Request

SURE = re.compile(r"^(fnlwgt|(sample|sampling|row|case|instance|observation|obs|survey)[_ -]?weights?)$", re.IGNORECASE)
MAYBE = re.compile(r"^(weights?|exposure|wgt|w)$", re.IGNORECASE)


def find(request: Request, facts: Mapping[str, Facts], taken: set[str], said: list[Assumption]) -> Facts | None:
    """The column of weights, None where each row counts once. Raises DataError or SettingsError for a flag that names another kind."""
    if request.weight is not None:
        _refuse_unfit(request.weight, facts[request.weight], taken)
        return facts[request.weight]
    kinds = {*request.numeric, *request.categorical, *request.datetime, *request.text, *request.leave_out}
    could = [each for each in facts.values() if each.name not in taken | kinds and _may_weigh(each)]
    for each in could:
        if SURE.search(each.name):
            why = "by its name it says how much a row counts, and is no feature"
            said.append(
                Assumption("weight", each.name, why, f"--weight; --numeric {quote(each.name)} makes it a feature")
            )
            return each
    _say_unfit(facts, taken | kinds, said)
    for each in could:
        if MAYBE.search(each.name):
            why = f"{each.name} may be what a row counts, and is a feature as long as nobody says so"
            said.append(Assumption("weight", "none", why, f"--weight {quote(each.name)}"))
    return None


def _say_unfit(facts: Mapping[str, Facts], named: set[str], said: list[Assumption]) -> None:
    """Says why a column that is called a weight is a feature: by a slip in a few rows it would become one without a word."""
    for each in facts.values():
        if not SURE.search(each.name) or each.name in named or not each.is_number:
            continue
        if each.low is not None and each.low < 0:
            why = f"{each.name} goes from {each.low:g} to {each.high:g}, and a weight is a number from 0: it stays a feature"
            said.append(Assumption("weight", "none", why, f"--leave-out {quote(each.name)}"))
        elif each.numbers < each.rows and each.high:
            why = f"{each.name} is a number in {each.numbers:,} of {each.rows:,} rows, and the others would be left out: it stays a feature"
            said.append(
                Assumption("weight", "none", why, f"--weight {quote(each.name)}, or --leave-out {quote(each.name)}")
            )


def _may_weigh(each: Facts) -> bool:
    """Whether all its cells are numbers from 0, and not all of them 0."""
    return 0 < each.filled == each.rows == each.numbers and each.low is not None and each.low >= 0 < (each.high or 0)


def _refuse_unfit(name: str, each: Facts, taken: set[str]) -> None:
    if name in taken:
        raise SettingsError(f"--weight {name}", "is the target, the key or a time already", "name another column")
    if each.numbers < each.filled or not each.filled:
        raise DataError(
            f"--weight {name}",
            f"is a number in {each.numbers:,} of {each.filled:,} cells; one is {each.example!r:.40}",
            "name a column of numbers from 0",
        )
    if each.low is None or each.low < 0 or not each.high:
        raise DataError(
            f"--weight {name}",
            f"goes from {each.low:g} to {each.high:g}",
            "a weight is a number from 0, and some are above",
        )
