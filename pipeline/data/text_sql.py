"""DuckDB expressions that read a text as a number, a truth value or a time, and never guess.

A number is what the table of spellings says (pipeline.serving.schema): ASCII digits with a sign, a decimal point and an exponent,
and spaces around it. A time is YYYY-MM-DD, with or without HH:MM, seconds, a fraction of up to nine digits and a zone. DuckDB's
own casts take more: 1_000 is a number to them, and a time with an offset of 25 hours is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from pipeline.serving.schema.spelling import MAX_DIGITS, MISSING, WORDS
from pipeline.serving.schema.times import MICROS, UNIX

_TIME = r"\d{4}-\d\d-\d\d([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d([.,]\d{1,9})?)?(\s?(Z|UTC|[+-]([01]\d|2[0-3])(:?[0-5]\d)?))?)?"


def stripped(text: str) -> str:
    """SQL for `text` without the spaces around it, whatever Python's strip() takes away. The others below take such a cell."""
    return f"regexp_replace({text}, {_SPACES}, '', 'g')"


def number(cell: str, decimal: str = ".") -> str:
    """SQL for the number that the SQL `cell` spells: NULL where it is missing, and where it is none."""
    point = "[.]" if decimal == "." else decimal
    pattern = rf"[+-]?(\d+({point}\d*)?|{point}\d+)([eE][+-]?\d+)?"
    pointed = cell if decimal == "." else f"replace({cell}, {literal(decimal)}, '.')"
    value = f"try_cast({pointed} AS DOUBLE)"
    # Plus 0.0: -0.0 is 0.
    return (
        f"CASE WHEN length({cell}) <= {MAX_DIGITS} AND regexp_full_match({cell}, {literal(pattern)})"
        f" AND isfinite({value}) THEN {value} + 0.0 END"
    )


def number_or_infinity(cell: str) -> str:
    """SQL for the number that the SQL `cell` spells, infinities as pandas and DuckDB write them too."""
    infinity = f"regexp_full_match({cell}, '[+-]?inf(inity)?', 'i')"
    return (
        f"CASE WHEN {infinity} THEN CASE WHEN starts_with({cell}, '-') THEN '-infinity' ELSE 'infinity' END::DOUBLE"
        f" ELSE {number(cell)} END"
    )


def pointed(cell: str) -> str:
    """SQL for the text of `cell`, with a point in the place of a number's decimal comma."""
    comma = r"\s*[+-]?(\d+,\d*|,\d+)\s*"
    return f"CASE WHEN regexp_full_match({cell}, {literal(comma)}) THEN replace({cell}, ',', '.') ELSE {cell} END"


def time(cell: str, epoch: str | None = None) -> str:
    """SQL for the TIMESTAMPTZ that the SQL `cell` spells, in the session's time zone where it names none; with `epoch` also for a
    number of that unit. NULL where it is missing, and where it is none."""
    # DuckDB takes no space before an offset and no comma, and reads UTC by name only in some versions.
    pointed = f"regexp_replace(replace({cell}, ',', '.'), '\\s?(Z|UTC)$', '+00')"
    plain = f"regexp_replace({pointed}, '\\s([+-]\\d\\d)', '\\1')"
    value = f"try_cast({plain} AS TIMESTAMPTZ)"
    last = "TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"
    return (
        f"CASE WHEN regexp_full_match({cell}, {literal(_TIME)})"
        f" AND {value} BETWEEN TIMESTAMPTZ '0001-01-01 00:00:00+00' AND {last} THEN {value}"
        f"{f' ELSE {_since_1970(cell, epoch)}' if epoch else ''} END"
    )


def _since_1970(cell: str, unit: str) -> str:
    """SQL for the TIMESTAMPTZ of a number of `unit`, as pipeline.serving.schema.times has it."""
    # Its digits where it has nothing else, so that a double rounds none of them.
    digits = f"CASE WHEN regexp_full_match({cell}, '[+-]?[0-9]{{1,30}}') THEN try_cast({cell} AS HUGEINT) END"
    double = number(cell)
    whole = f"coalesce({digits}, CASE WHEN abs({double}) < 1e30 AND {double} = trunc({double}) THEN try_cast({double} AS HUGEINT) END)"
    if unit == "ns":
        # Rounded down: DuckDB's // rounds towards zero.
        exact = f"(({whole}) - (({whole}) % 1000 + 1000) % 1000) // 1000"
        rounded = f"try_cast({double} / 1000 AS BIGINT)"
    else:
        exact = f"({whole}) * {MICROS[unit]}"
        rounded = f"try_cast({double} * {MICROS[unit]} AS BIGINT)"
    micros = f"coalesce({exact}, {rounded})"
    return (
        f"CASE WHEN {micros} BETWEEN {_FIRST_MICROS} AND {_LAST_MICROS}"
        f" THEN make_timestamp(try_cast({micros} AS BIGINT)) AT TIME ZONE 'UTC' END"
    )


def is_day(cell: str) -> str:
    """SQL that is true for a text of a date without a time."""
    return f"regexp_full_match({cell}, '\\d{{4}}-\\d\\d-\\d\\d')"


def truth(cell: str) -> str:
    """SQL for the BOOLEAN that the SQL `cell` spells: NULL where it is missing, and where it is none."""
    true, false = (_words(truth for truth in WORDS if WORDS[truth] == wanted) for wanted in (True, False))
    word = f"lower({cell})"
    return f"CASE WHEN {_is_among(word, true)} THEN TRUE WHEN {_is_among(word, false)} THEN FALSE END"


def is_word(cell: str) -> str:
    """SQL that is true for a spelling of true or false that is no number."""
    return _is_among(f"lower({cell})", _words(word for word in WORDS if word.isalpha()))


def _is_among(cell: str, words: str) -> str:
    """SQL like `cell IN (words)`, of which DuckDB makes a join for each column: with 100 columns that took forty times as long."""
    return f"regexp_full_match({cell}, {words})"


def _words(words: Iterable[str]) -> str:
    """A pattern of `words` for `_is_among`."""
    return literal("|".join(re.escape(word) for word in words))


def is_missing(cell: str) -> str:
    """SQL that is true for a spelling of a missing value; NULL for NULL."""
    return _is_among(cell, _MISSING)


def unreadable(cell: str, value: str) -> str:
    """SQL that is true where `cell` is not missing, and `value`, one of the above of it, has no value."""
    return f"({cell} IS NOT NULL AND {value} IS NULL AND NOT {is_missing(cell)})"


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


_FIRST_MICROS, _LAST_MICROS = (
    (time.replace(tzinfo=UTC) - UNIX) // timedelta(microseconds=1) for time in (datetime.min, datetime.max)
)
# The last of Unicode's white space; a look at all of its characters would take each process 0.1 s.
_LAST_SPACE = 0x3000
_SPACE = "[" + "".join(filter(str.isspace, map(chr, range(_LAST_SPACE + 1)))) + "]"
_SPACES = literal(f"^{_SPACE}+|{_SPACE}+$")
_MISSING = _words(sorted(MISSING))
