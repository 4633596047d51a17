"""From one cell to one value, kind by kind; the package's docstring says which spellings are one value.

Each function returns None for a missing value, and raises Unreadable for a cell that is no value of its kind. The reason follows
the column's name in a refusal.
"""

from __future__ import annotations

import json
import math
import re
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

import numpy as np

Spelling = Literal["text", "number", "truth"]

MISSING = frozenset(
    (
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "NaT"),
    )
)
# Python's float() takes 1_0 too. Each digit fits one place of the pattern only, or a long number that is none would be tried in
# each way to cut it: 30,000 digits and a letter took a minute.
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# A number as a category: without an exponent, which a piece of a hash may look like, but for that of a small fraction, as pandas writes
# 0.00001 into a CSV.
PLAIN = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE]-\d{1,3})?", re.ASCII)
WHOLE_KEY = re.compile(r"-?(0|[1-9]\d*)(\.0+)?", re.ASCII)
WORDS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "1.0"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "0.0"), False),
}
# From here on a double does not hold every whole number.
EXACT = 2**53
# The same for a float32.
EXACT_SINGLE = 2**24
# The longest text that is read as a number: Python's int() takes the square of its length.
MAX_DIGITS = 400


class Unreadable(ValueError):
    """A cell is no value of its column's kind; the text says what it must be."""


def number(cell: Any) -> float | None:
    """The number, finite."""
    if type(cell) is str:
        text = cell.strip()
        if text in MISSING:
            return None
        if len(text) > MAX_DIGITS or not NUMBER.fullmatch(text):
            raise Unreadable(f"must be a number; got {shown(cell)}")
        value = float(text)
    elif missing(cell):
        return None
    elif isinstance(cell, int | float | np.integer | np.floating | Decimal) and not isinstance(cell, bool):
        try:
            value = float(cell)
        except OverflowError:
            value = math.inf
    else:
        raise Unreadable(f"must be a number; got {shown(cell)}")
    if not math.isfinite(value):
        raise Unreadable("must be a finite number")
    # -0.0 is 0: a model that splits on the sign must not see two values.
    return value + 0.0


def undamaged(cell: Any) -> Any:
    """A number for a column that float32 cannot hold: of a float32 the double that its text means. Raises Unreadable where digits are lost."""
    if not isinstance(cell, np.floating) or cell.itemsize >= 8 or not np.isfinite(cell):
        return cell
    if abs(float(cell)) >= EXACT_SINGLE:
        raise Unreadable(
            f"must be sent as FP64, or as a whole number: digits of the {cell.itemsize * 8} bit float {cell:.9g} are lost"
        )
    return float(str(cell))


def truth(cell: Any) -> float | None:
    """1.0 for true and 0.0 for false."""
    if isinstance(cell, bool | np.bool_):
        return float(cell)
    if type(cell) is str:
        text = cell.strip()
        if text in MISSING:
            return None
        if (known := WORDS.get(text.lower())) is not None:
            return float(known)
    elif missing(cell):
        return None
    elif isinstance(cell, int | float | np.integer | np.floating | Decimal) and cell in (0, 1):
        # Not judged by its double: an integer of 400 digits has none.
        return float(cell == 1)
    raise Unreadable(f"must be true or false; got {shown(cell)}")


def category(cell: Any, spelling: Spelling = "text") -> str | None:
    """The category's one text."""
    if type(cell) is str:
        if spelling == "text" or not cell:
            return cell or None
        text = cell.strip()
        if spelling == "truth":
            known = WORDS.get(text.lower())
            return cell if known is None else str(known).lower()
        return plain(text) if len(text) <= MAX_DIGITS and PLAIN.fullmatch(text) else cell
    if (type(cell) is int or (type(cell) is float and cell.is_integer())) and -EXACT < cell < EXACT:
        # What most clients send, in a tenth of the time.
        text = str(int(cell))
        return text if spelling != "truth" or text not in ("0", "1") else str(text == "1").lower()
    if missing(cell):
        return None
    if isinstance(cell, bool | np.bool_):
        return str(int(cell)) if spelling == "number" else str(bool(cell)).lower()
    if isinstance(cell, datetime) or not isinstance(cell, date | int | float | np.integer | np.floating | Decimal):
        raise Unreadable(f"must be text; got {shown(cell)}")
    if isinstance(cell, date):
        return cell.isoformat()
    text = plain(_digits(cell))
    if spelling == "truth" and text in ("0", "1"):
        return "true" if text == "1" else "false"
    return text


def free_text(cell: Any) -> str | None:
    """The text as it is."""
    if isinstance(cell, str):
        return cell or None
    if missing(cell):
        return None
    raise Unreadable(f"must be text; got {shown(cell)}")


def key(cell: Any) -> str | None:
    """The key's one text."""
    if type(cell) is str:
        if not (cell.endswith("0") and WHOLE_KEY.fullmatch(cell)):
            return cell or None
        whole = cell.partition(".")[0]
        return "0" if whole == "-0" else whole
    if type(cell) is int and -EXACT < cell < EXACT:
        return str(cell)
    if missing(cell):
        return None
    if isinstance(cell, bool | np.bool_ | datetime) or not isinstance(
        cell, int | float | np.integer | np.floating | Decimal
    ):
        raise Unreadable("must be text or a whole number")
    text = plain(_digits(cell))
    if "." in text:
        raise Unreadable("must be text or a whole number")
    return text


def missing(cell: Any) -> bool:
    """Whether a cell that is no text is a missing value. NaN and NaT differ from themselves; pandas' NA cannot say."""
    if cell is None:
        return True
    try:
        return bool(cell != cell)
    except TypeError:
        return True
    except ValueError:
        return False


def plain(digits: str) -> str:
    """A number's text without a plus, an exponent, leading zeros or zeros behind its last decimal."""
    value = Decimal(digits)
    if value == 0:
        return "0"
    if abs(value.adjusted()) > MAX_DIGITS:
        raise Unreadable("must be text; got a number without a plain spelling")
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _digits(cell: Any) -> str:
    """The shortest text that means the number. Raises Unreadable for a float that has lost digits."""
    if isinstance(cell, float | np.floating):
        largest = EXACT if isinstance(cell, float) else {2: 2**11, 4: 2**24}.get(cell.itemsize, EXACT)
        if not math.isfinite(cell) or abs(float(cell)) >= largest:
            raise Unreadable(f"must be text or a whole number below {largest:,}; got {shown(float(cell))}")
        # The scalar's own text: a float32 0.1 is 0.1, and no double near it.
        return np.format_float_positional(cell) if isinstance(cell, np.floating) else repr(cell)
    if isinstance(cell, int | np.integer) and not -(10**MAX_DIGITS) < int(cell) < 10**MAX_DIGITS:
        raise Unreadable("must be text; got a number without a plain spelling")
    return str(cell)


def shown(value: Any) -> str:
    """A value as a refusal quotes it: at most 40 characters, whatever its size."""
    text = ""
    try:
        for part in json.JSONEncoder().iterencode(value):
            text += part[:40]
            if len(text) >= 40:
                break
        return text[:40]
    except (TypeError, ValueError):
        return type(value).__name__
