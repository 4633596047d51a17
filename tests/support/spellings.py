"""Spellings of numbers and times in text cells, with what each means: every reading of them must agree."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from harness.project import ROOT

MISSING = None
UNREADABLE = "unreadable"

# A text, and its number: for the source, `predict`, the drift of two files and the endpoint alike.
NUMBERS: list[tuple[str, float | str | None]] = [
    *((text, 5.0) for text in ("5", "5.0", "+5", " 5 ", "5.", "005", "5e0", "0.5e1", "50E-1", "\t5\n", "\xa05\u3000")),
    ("0.37", 0.37),
    (".5", 0.5),
    ("-.5", -0.5),
    ("040", 40.0),
    ("-0", 0.0),
    ("-0.0", 0.0),
    ("1e3", 1000.0),
    ("1e-400", 0.0),
    ("16777217", 16777217.0),
    ("0.1000000001", 0.1000000001),
    ("9007199254740993", 9007199254740992.0),
    *((text, MISSING) for text in ("", " ", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A", " NA ")),
    *(
        (text, UNREADABLE)
        for text in ("1,000", "0,37", "1_000", "1 000", "0x1", "٣", "१", "５", "inf", "-inf", "Infinity")
    ),
    *(
        (text, UNREADABLE)
        for text in ("1e400", "1" * 401, "5e", "e5", "+", "-", ".", "--5", "5-", "1.2.3", "abc", "true")
    ),
    *(
        (text, UNREADABLE)
        for text in ("nA", "none", "missing", "?", "5 %", "€5", "2024-02-01", "1/2", "5\x00", "5d", "5f")
    ),
]


def _utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


TIMES: list[tuple[str, datetime | str | None]] = [
    ("2024-02-01", _utc(2024, 2, 1)),
    (" 2024-02-01 ", _utc(2024, 2, 1)),
    ("2024-02-01T10:05", _utc(2024, 2, 1, 10, 5)),
    ("2024-02-01 10:05:06", _utc(2024, 2, 1, 10, 5, 6)),
    ("2024-02-01 10:05:06.1234569", _utc(2024, 2, 1, 10, 5, 6, 123456)),
    ("2024-02-01 10:05:06,5", _utc(2024, 2, 1, 10, 5, 6, 500000)),
    ("2024-02-01T10:05:06.123456789Z", _utc(2024, 2, 1, 10, 5, 6, 123456)),
    ("2024-02-01 10:05 UTC", _utc(2024, 2, 1, 10, 5)),
    ("2024-02-01T10:05:06+02", _utc(2024, 2, 1, 8, 5, 6)),
    ("2024-02-01T10:05:06-0230", _utc(2024, 2, 1, 12, 35, 6)),
    ("2024-02-01 10:05:06 +02:30", _utc(2024, 2, 1, 7, 35, 6)),
    ("2024-02-29", _utc(2024, 2, 29)),
    *((text, MISSING) for text in ("", "NaT", "NULL", "NA", " ")),
    *(
        (text, UNREADABLE)
        for text in ("2023-02-29", "2024-13-01", "2024-02-01T24:00", "2024-02-01T10:60", "2024-02-01T10")
    ),
    *(
        (text, UNREADABLE)
        for text in ("20240201", "2024-W05-4", "01.02.2024", "02/01/2024", "1706745600", "10:05", "now")
    ),
    *((text, UNREADABLE) for text in ("2024-2-1", "2024-02-01T10:05:06+25:00", "0000-01-01", "9999-12-31T23:59-10:00")),
    *(
        (text, UNREADABLE)
        for text in ("2024-02-01T10:05:60", "٢٠٢٤-02-01", "2024-02-01Z", "2024-02-01 10:05 CET", "epoch")
    ),
]

# In a column of truth values.
TRUTHS: list[tuple[str, bool | str | None]] = [
    *((text, True) for text in ("true", "True", "TRUE", "t", "yes", "Y", "1", "1.0", " true ")),
    *((text, False) for text in ("false", "False", "F", "no", "N", "0", "0.0")),
    *((text, MISSING) for text in ("", "NA", "nan", "None")),
    *((text, UNREADABLE) for text in ("2", "maybe", "truee", "on", "-1", "wahr", "1e0")),
]

# A key's cell as JSON, and the one key that it is: the router's test reads the same table.
KEYS = json.loads((ROOT / "docker/router/bucket/testdata/keys.json").read_text(encoding="utf-8"))
