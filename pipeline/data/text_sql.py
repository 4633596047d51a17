"""DuckDB expressions that read a text as a number, a truth value or a time, and never guess.

A number is what the table of spellings says (pipeline.serving.schema): ASCII digits with a sign, a decimal point and an exponent,
and spaces around it. A time is YYYY-MM-DD, with or without HH:MM, seconds, a fraction of up to nine digits and a zone. DuckDB's
own casts take more: 1_000 is a number to them, and a time with an offset of 25 hours is one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from pipeline.serving.schema.spelling import MAX_DIGITS, MISSING, WORDS

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


def pointed(cell: str) -> str:
    """SQL for the text of `cell`, with a point in the place of a number's decimal comma."""
    comma = r"\s*[+-]?(\d+,\d*|,\d+)\s*"
    return f"CASE WHEN regexp_full_match({cell}, {literal(comma)}) THEN replace({cell}, ',', '.') ELSE {cell} END"


def time(cell: str) -> str:
    """SQL for the TIMESTAMPTZ that the SQL `cell` spells, in the session's time zone where it names none: NULL where it is missing, and
    where it is none."""
    # DuckDB takes no space before an offset and no comma, and reads UTC by name only in some versions.
    pointed = f"regexp_replace(replace({cell}, ',', '.'), '\\s?(Z|UTC)$', '+00')"
    plain = f"regexp_replace({pointed}, '\\s([+-]\\d\\d)', '\\1')"
    value = f"try_cast({plain} AS TIMESTAMPTZ)"
    last = "TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"
    return (
        f"CASE WHEN regexp_full_match({cell}, {literal(_TIME)})"
        f" AND {value} BETWEEN TIMESTAMPTZ '0001-01-01 00:00:00+00' AND {last} THEN {value} END"
    )


def is_day(cell: str) -> str:
    """SQL that is true for a text of a date without a time."""
    return f"regexp_full_match({cell}, '\\d{{4}}-\\d\\d-\\d\\d')"


def truth(cell: str) -> str:
    """SQL for the BOOLEAN that the SQL `cell` spells: NULL where it is missing, and where it is none."""
    true, false = (_words(truth for truth in WORDS if WORDS[truth] == wanted) for wanted in (True, False))
    return f"CASE WHEN lower({cell}) IN ({true}) THEN TRUE WHEN lower({cell}) IN ({false}) THEN FALSE END"


def is_word(cell: str) -> str:
    """SQL that is true for a spelling of true or false that is no number."""
    return f"lower({cell}) IN ({_words(word for word in WORDS if word.isalpha())})"


def _words(words: Iterable[str]) -> str:
    return ", ".join(literal(word) for word in words)


def unreadable(cell: str, value: str) -> str:
    """SQL that is true where `cell` is not missing, and `value`, one of the above of it, has no value."""
    return f"({cell} IS NOT NULL AND {value} IS NULL AND {cell} NOT IN ({_MISSING}))"


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


_SPACE = "[" + "".join(chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()) + "]"
_SPACES = literal(f"^{_SPACE}+|{_SPACE}+$")
_MISSING = _words(sorted(MISSING))
