"""Columns of texts that people read as numbers: 12.3k, 4M, 5 kg, <20, 20+, 120/80, 1h 30m.

As texts they are categories of their own, which 12.4k tells nothing about. `init` says so, with the SELECT that makes numbers of them
where one rule does. Who wants them as categories names them with --categorical.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from shlex import quote

from pipeline.data import text_sql
from pipeline.data.sql import quoted
from pipeline.errors import DataError
from pipeline.init import time_forms
from pipeline.init.facts import Facts
from pipeline.init.marked_numbers import decimal_mark
from pipeline.init.odd_cells import OddCells
from pipeline.init.request import Assumption, Request
from pipeline.init.table import TABLE

# So many different numbers at least: fewer are names, such as 3G, 4G and 5G. And so many units at most: more are words of addresses.
FEWEST_NUMBERS, MOST_UNITS = 6, 5
# Two numbers in a cell may be a name, such as 4x4; so many different ones are measured.
FEWEST_PAIRS = 50
NEARLY_ALL, SOME = 0.95, 0.05
_SIGN = "[$€£¥]"
_CURRENCY = rf"{_SIGN}|USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|BRL"
_NUMBER = r"[+-]?\d[\d.,]*"
_UNIT = r"[^\W\d_]{0,12}[°/²³\"'″′]?[^\W\d_]{0,6}[²³]?"
WITH_UNIT = re.compile(rf"({_CURRENCY})?\s?({_NUMBER})\s?({_UNIT})\.?\s?({_SIGN})?")
BOUND = re.compile(rf"[<>≤≥~≈]=?\s?{_NUMBER}|{_NUMBER}\s?\+")
PAIR = re.compile(rf"{_NUMBER}\s?[/:x×]\s?{_NUMBER}(?:\s?:\s?{_NUMBER})?")
PARTS = re.compile(r"(?:\d+\s?(?:y|yr|w|wk|d|h|hr|hrs|m|min|mins|s|sec|ft|in|['\"′″])\s?){2,4}")
SCALES = {
    **dict.fromkeys(("k", "K", "tsd", "Tsd"), 10**3),
    **dict.fromkeys(("M", "MM", "mn", "mln", "mio", "Mio", "million"), 10**6),
    **dict.fromkeys(("B", "bn", "bln", "Mrd", "billion"), 10**9),
}
# What SQL takes for the number and the unit of a cell of WITH_UNIT.
_SQL_NUMBER = r"^[^0-9.,+-]*([+-]?[0-9][0-9.,]*)\s?[^0-9]*$"
_SQL_UNIT = rf"[0-9.,]\s?([^\s0-9.,{_SIGN[1:-1]}]*)[^0-9]*$"


def say(request: Request, facts: Mapping[str, Facts], taken: set[str], odd: OddCells, said: list[Assumption]) -> None:
    """Says of each column of texts that hold numbers or times, and would be a feature as they stand, how to read them."""
    named = {*request.numeric, *request.categorical, *request.text, *request.datetime, *request.leave_out}
    for each in facts.values():
        if (
            each.name == request.target
            or not _is_words(each)
            or each.name in named | (taken if not each.is_time else set())
        ):
            continue
        if time_forms.say(each, odd, said):
            continue
        if not each.is_time and (found := of(each, odd)):
            why, advice = found
            advice = f"{advice}; --categorical {quote(each.name)} keeps it"
            said.append(Assumption("numbers as texts", each.name, f"it {why}", advice))


def refuse_target(target: Facts, odd: OddCells) -> None:
    """Raises DataError for a target of such texts: each would be a class."""
    if _is_words(target) and not target.is_time and (found := of(target, odd)):
        raise DataError(f"--target {target.name}", *found)


def _is_words(each: Facts) -> bool:
    return each.type == "VARCHAR" and each.filled > 0 and not (each.is_number or each.is_text)


def of(each: Facts, odd: OddCells) -> tuple[str, str] | None:
    """(what the cells of a column are, what to do) where nearly all are numbers with something beside them; None for other columns."""
    cells = odd.some_cells(each.name)
    found = {cell: match for cell in cells if (match := WITH_UNIT.fullmatch(cell))}
    with_unit = [cell for cell in cells if cell in found and _has_unit(found[cell])]
    numbers, units = {match[2] for match in found.values()}, {match[3] for match in found.values()} - {""}
    most = (1 - NEARLY_ALL) * len(cells)
    others = [cell for cell in cells if cell not in found]
    if len(others) <= most and len(with_unit) > SOME * len(cells):
        several = len(numbers) >= FEWEST_NUMBERS and len(units) <= MOST_UNITS
        return _of_units(each, odd, found, max(with_unit, key=len)) if several else None
    for pattern, fewest, what in KINDS:
        rest = [cell for cell in cells if cell not in found or _has_unit(found[cell])]
        of_kind = [cell for cell in rest if pattern.fullmatch(cell)]
        if len(rest) - len(of_kind) <= most and len(of_kind) > SOME * len(cells) and len({*of_kind}) >= fewest:
            why = f"has {what}, like {max(of_kind, key=len)!r:.40}, and as texts each is a category of its own"
            return why, f"make one number of each in a SELECT as --data, or --leave-out {quote(each.name)}"
    return None


KINDS = (
    (BOUND, FEWEST_NUMBERS, "bounds"),
    (PAIR, FEWEST_PAIRS, "several numbers in one"),
    (PARTS, FEWEST_NUMBERS, "several numbers in one"),
)


def _has_unit(match: re.Match[str]) -> bool:
    return bool(match[3] or match[1] or match[4])


def _of_units(each: Facts, odd: OddCells, found: Mapping[str, re.Match[str]], example: str) -> tuple[str, str]:
    units = sorted({match[3] for match in found.values()} - {""})
    currencies = sorted({match[place] for match in found.values() for place in (1, 4)} - {None})
    why = f"has numbers with {', '.join([*currencies, *units])}, like {example!r:.40}, and as texts each is a category of its own"
    otherwise = f"write them in one unit, or --leave-out {quote(each.name)}"
    factors = _factors(units)
    if factors is None or len(currencies) > 1:
        return why, otherwise
    numbers = f"SELECT regexp_extract(cell, {text_sql.literal(_SQL_NUMBER)}, 1) AS cell FROM (SELECT {text_sql.stripped(quoted(each.name))} AS cell FROM {TABLE})"
    mark = decimal_mark(
        odd.connection, each.name, f"SELECT cell FROM ({numbers}) WHERE cell <> ''", odd.origin.csv.decimal
    )
    query = f"SELECT {_number('cell', mark, factors)} FROM (SELECT unnest($1::VARCHAR[]) AS cell)"
    (first, *others) = odd.connection.execute(query, [[example, *found]]).fetchall()
    if (None,) in (first, *others):
        return why, otherwise
    select = odd.select(each.name, _number(f"trim({quoted(each.name)})", mark, factors))
    return why, f"make numbers of them, for example with --data {select}, which reads {example!r} as {first[0]:.15g}"


def _factors(units: Sequence[str]) -> dict[str, int] | None:
    """By unit, how much of one number it is; None where that cannot be known. A number without one is as it stands."""
    scales = {unit: SCALES[unit] for unit in units if unit in SCALES}
    # Beside k an m is a million, and alone it is a metre or a minute.
    scales |= {unit: SCALES[unit.upper()] for unit in units if scales and unit in ("m", "b")}
    if len(scales) == len(units):
        return scales
    return {units[0]: 1} if len(units) == 1 else None


def _number(cell: str, mark: str, factors: Mapping[str, int]) -> str:
    """SQL for the number of a cell."""
    digits = f"replace(regexp_extract({cell}, {text_sql.literal(_SQL_NUMBER)}, 1), {text_sql.literal(',.'.replace(mark, ''))}, '')"
    pointed = digits if mark == "." else f"replace({digits}, ',', '.')"
    unit = f"regexp_extract({cell}, {text_sql.literal(_SQL_UNIT)}, 1)"
    cases = " ".join(f"WHEN {text_sql.literal(name)} THEN {factor}" for name, factor in factors.items())
    return f"try_cast({pointed} AS DOUBLE) * CASE {unit} {cases} WHEN '' THEN 1 END"
