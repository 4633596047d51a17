"""The ledger's chain: each row carries the hash of the row before it, so that a changed, removed or inserted row breaks it.

hash = sha256(previous hash + canonical JSON of the row's own fields). The chain alone does not show that its last rows were
deleted, or that it was written anew as a whole. So its head, the last row's number and hash, is written down outside as an
anchor: in each version's tags in MLflow and in the route files (see pipeline.runs.ledger_check, which compares them).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from pipeline.ledger.json_text import read_json

GENESIS = "0" * 64
HASHED = ("seq", "at", "run", "model", "kind", "step", "body")
# The clocks of the machines that share a ledger differ by milliseconds.
CLOCK_TOLERANCE = timedelta(seconds=1)
HEAD = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


@dataclass(frozen=True)
class Head:
    """The last row of a chain: its number and its hash. As text they are parted by a colon."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: object) -> Self | None:
        """The head that `str` wrote; None for anything else."""
        match = HEAD.fullmatch(text) if isinstance(text, str) else None
        return cls(int(match[1]), match[2]) if match else None


@dataclass(frozen=True)
class Anchor:
    """A head that is written down outside the ledger; `where` names the place. An older place has none."""

    where: str
    head: Head | None


def later(one: Head | None, other: Head | None) -> Head | None:
    """The head with the larger number: an anchor never goes back, or a shorter chain would hide what it lost."""
    return max((head for head in (one, other) if head is not None), key=lambda head: head.seq, default=None)


@dataclass(frozen=True)
class ChainCheck:
    """`events` rows were read, up to and with the first broken one, whose number is `broken`; None when all fit.

    `head` is the last row that fits, None without one; `hashes` are those of the wanted rows that were read.
    """

    events: int
    broken: int | None
    head: Head | None
    hashes: Mapping[int, str]


def check(rows: Iterable[Mapping[str, Any]], wanted: Collection[int] = ()) -> ChainCheck:
    """Follows the chain through all rows, in the order of their numbers, up to the first that does not fit."""
    wanted = frozenset(wanted)
    hashes: dict[int, str] = {}
    previous, count = GENESIS, 0
    for row in rows:
        count += 1
        if row["seq"] != count or row["previous"] != previous or not _fits(row):
            head = Head(count - 1, previous) if count > 1 else None
            return ChainCheck(count, row["seq"], head, hashes)
        previous = row["hash"]
        if count in wanted:
            hashes[count] = previous
    return ChainCheck(count, None, Head(count, previous) if count else None, hashes)


def _fits(row: Mapping[str, Any]) -> bool:
    try:
        read_json(row["body"])
        return bool(row["hash"] == chain_hash(row["previous"], {name: row[name] for name in HASHED}))
    except (ValueError, TypeError, RecursionError):
        # A byte that is no UTF-8, or a body that is no JSON.
        return False


@dataclass(frozen=True)
class ClockStep:
    """An event whose time is before the time `earlier` of an event with a smaller number."""

    seq: int
    at: str
    earlier: str

    @property
    def is_set_back(self) -> bool:
        """Whether the difference is more than clocks of several machines have, or a time cannot be read."""
        try:
            return datetime.fromisoformat(self.earlier) - datetime.fromisoformat(self.at) > CLOCK_TOLERANCE
        except (ValueError, TypeError):
            return True


def canonical(value: Any) -> str:
    """JSON that is the same for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def writable(text: str) -> str:
    """JSON with an escape in place of each character that UTF-8 cannot write, such as half a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode()


def chain_hash(previous: str, row: Mapping[str, Any]) -> str:
    """The hash of a row. Raises UnicodeEncodeError for a text that is no UTF-8."""
    return hashlib.sha256((previous + canonical(row)).encode()).hexdigest()


def chained(rows: Iterable[Mapping[str, Any]], seq: int, previous: str) -> list[dict[str, Any]]:
    """The rows with their numbers and hashes, after the row number `seq` whose hash is `previous`."""
    found: list[dict[str, Any]] = []
    for number, row in enumerate(rows, start=seq + 1):
        hashed = {"seq": number, **row}
        found.append({**hashed, "previous": previous, "hash": chain_hash(previous, hashed)})
        previous = str(found[-1]["hash"])
    return found
