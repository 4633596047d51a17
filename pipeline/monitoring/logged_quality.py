"""What a prediction log says of its data beside the values: when rows came, which rules they broke, and which categories nobody had learnt.

When they came goes by the time of receipt: what came once stays as it was, so that a look that is repeated sees the same, whatever event
times later requests have. Requests that were refused are in no log: the slots count them beside it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from pipeline.monitoring import counted_requests

HOUR_MS, DAY_H = 3_600_000, 24
# So far back the history of a model's requests is looked at: 26 weeks before the newest.
HISTORY_DAYS = 27 * 7
# More than any budget of false alarms allows for.
LONGEST_SILENCES = 200
# A rule's text names the value after this.
GOT = "; got "
MOST_RULES = 50
# Repeated rows are looked for in so many days, by so many of their rows.
NEWEST_DAYS, COUNTED_ROWS = 7, 1_000_000


@dataclass(frozen=True)
class LoggedQuality:
    """`days` has the rows received in each 24 hours before the end of the window, the newest first, up to those with the log's first row. No row
    had come for `silent_h` hours then, None without any; `silences_h` are the longest spans without one before that, the longest first.

    Of the rows with event time in the window `breaches` counts those that break a rule of the contract and were answered, by the rule, and
    `unknown` those with a category that was never learnt, by the column. `refused` counts the requests of the window that got no answer, by the
    kind of reason, and `refused_days` has (refused, all) requests of each 24 hours before its end, as far as slots count them. `broken_days`
    and `unknown_days` have the same of the rows with breaches or unknown categories, by receipt; of the newest days `repeated` counts the rows
    whose key and event time another row of the day has.
    """

    days: tuple[int, ...] = ()
    silent_h: float | None = None
    silences_h: tuple[float, ...] = ()
    breaches: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    refused_days: tuple[tuple[int, int], ...] = ()
    broken_days: tuple[tuple[int, int], ...] = ()
    unknown_days: tuple[tuple[int, int], ...] = ()
    repeated: tuple[int, ...] = ()

    def with_requests(self, folder: Path, start: datetime, end: datetime) -> LoggedQuality:
        """With what the slots counted beside the log in `folder`."""
        counted = counted_requests.hours(folder)
        days = counted_requests.days(counted, end, HISTORY_DAYS)
        return replace(self, refused=counted_requests.refused(counted, start, end), refused_days=tuple(days))

    def as_text(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def read_text(cls, text: str) -> LoggedQuality:
        values: dict[str, Any] = json.loads(text)
        of_times = tuple(values["days"]), values["silent_h"], tuple(values["silences_h"])
        # A deployer of an earlier version counts none of these.
        refused, broken, unknown = (
            tuple((such, every) for such, every in values.get(f"{what}_days", ()))
            for what in ("refused", "broken", "unknown")
        )
        of_rules = values["breaches"], values["unknown"], values.get("refused", {})
        return cls(*of_times, *of_rules, refused, broken, unknown, tuple(values.get("repeated", ())))


def of_log(
    connection: duckdb.DuckDBPyConnection, relation: str, bound: Mapping[str, Any], start: datetime, end: datetime
) -> LoggedQuality:
    """Of `relation`, SQL for the log's rows without golden requests (received_at, event_at, breaches, unknown, key), which takes the values
    of `bound`, with event times in [start, end), and of what was received before `end`."""
    at_ms = round(end.timestamp() * 1000)
    query = f"""
        SELECT ($at_ms - 1 - epoch_ms(received_at)) // {HOUR_MS} AS hours_ago, count(*),
               min(epoch_ms(received_at)), max(epoch_ms(received_at)), count(breaches), count(unknown)
        FROM {relation} WHERE epoch_ms(received_at) < $at_ms AND epoch_ms(received_at) >= $at_ms - $reach_ms
        GROUP BY 1 ORDER BY 1"""
    reach = {"at_ms": at_ms, "reach_ms": HISTORY_DAYS * DAY_H * HOUR_MS}
    hours = connection.execute(query, {**bound, **reach}).fetchall()
    days, broken_days, unknown_days = ([0] * (hours[-1][0] // DAY_H + 1 if hours else 0) for _ in range(3))
    for ago, rows, _, _, broken_rows, unknown_rows in hours:
        days[ago // DAY_H] += rows
        broken_days[ago // DAY_H] += broken_rows
        unknown_days[ago // DAY_H] += unknown_rows
    # Within an hour no silence is long.
    silences = [(newer[2] - older[3]) / HOUR_MS for newer, older in zip(hours, hours[1:], strict=False)]
    longest = sorted((round(hours, 3) for hours in silences), reverse=True)[:LONGEST_SILENCES]
    silent = round((at_ms - hours[0][3]) / HOUR_MS, 3) if hours else None
    query = f"""
        SELECT breaches, unknown, count(*) FROM {relation}
        WHERE event_at >= $start AND event_at < $end AND (breaches IS NOT NULL OR unknown IS NOT NULL) GROUP BY ALL"""
    breaches: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for broken, unlearnt, rows in connection.execute(query, {**bound, "start": start, "end": end}).fetchall():
        # A rule once a row, whatever its values.
        breaches.update(dict.fromkeys((rule.partition(GOT)[0] for rule in json.loads(broken or "[]")), rows))
        unknown.update(dict.fromkeys(json.loads(unlearnt or "[]"), rows))
    return LoggedQuality(
        tuple(days),
        silent,
        tuple(longest),
        _most(breaches),
        _most(unknown),
        broken_days=tuple(zip(broken_days, days, strict=True)),
        unknown_days=tuple(zip(unknown_days, days, strict=True)),
        repeated=_repeated(connection, relation, bound, at_ms),
    )


def _repeated(
    connection: duckdb.DuckDBPyConnection, relation: str, bound: Mapping[str, Any], at_ms: int
) -> tuple[int, ...]:
    """Of each of the newest days the rows that repeat another one of it. Of many rows those of some keys are counted, and stand for all."""
    newest = f"epoch_ms(received_at) < $at_ms AND epoch_ms(received_at) >= $at_ms - {NEWEST_DAYS * DAY_H * HOUR_MS}"
    keyed = f"FROM {relation} WHERE {newest} AND key IS NOT NULL"
    (rows,) = connection.execute(f"SELECT count(*) {keyed}", {**bound, "at_ms": at_ms}).fetchone() or (0,)
    share = -(-rows // COUNTED_ROWS) or 1
    query = f"""
        SELECT ($at_ms - 1 - epoch_ms(received_at)) // {DAY_H * HOUR_MS} AS day, count(*) - count(DISTINCT hash(key, event_at))
        {keyed} AND hash(key) % {share} = 0 GROUP BY 1"""
    found = dict(connection.execute(query, {**bound, "at_ms": at_ms}).fetchall())
    return tuple(found.get(day, 0) * share for day in range(NEWEST_DAYS))


def _most(counted: Counter[str]) -> dict[str, int]:
    """The most frequent ones, in an order that does not depend on the log's."""
    return dict(sorted(counted.items(), key=lambda each: (-each[1], each[0]))[:MOST_RULES])
