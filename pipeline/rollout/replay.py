"""Sends a candidate, which gets no traffic yet, requests that were answered before: evidence for a model with few requests.

The prediction log has each answered row with its features. Its requests go to the candidate's slot with the slot's own golden key, so
they count as no traffic. A request is sent only when the log has each of its rows as it was asked; what is left out is counted, with the
reason. Each answer is compared with what the champion answered then, or, where another version answered, with what the champion's package
says. A request's form is not in the log, and its key changes no prediction, nor does its event time where no age is counted to it: it is
sent as JSON, without what changes nothing.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Self

import httpx
import numpy as np

from pipeline.errors import PerennialError, RolloutError
from pipeline.ledger.timeline import live_at
from pipeline.policy.canary import Evidence
from pipeline.policy.confidence import Counted
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.logged_requests import newest_rows
from pipeline.rollout.paired import Pair, event_times, features_of, rows_of, said
from pipeline.rollout.probe import is_https
from pipeline.rollout.routing.route import RoutedSlot
from pipeline.rollout.slots import ProvenSlot, predictions_folder
from pipeline.serving import comparable
from pipeline.serving.errors import PackageRefused
from pipeline.serving.schema import Column, Reader, Rows, times
from pipeline.serving.schema.ages import spelt_again
from pipeline.settings.rollout import Rollout

if TYPE_CHECKING:
    import pyarrow as pa

LOOK_S = 1.0
# What stands for a personal text in the log (pipeline.serving.prediction_log.pseudonym).
PSEUDONYM = re.compile("[0-9a-f]{32}")
# Too large as JSON though not in the form it had, too many at once, arrived too late: the sender's fault, not the version's.
NO_EVIDENCE = {408: "arrived too late", 413: "are too large as JSON", 429: "found the slot busy"}


@dataclass(frozen=True)
class LoggedRequest:
    """One request: its features, by name, for the candidate; its rows as each version takes them; what the champion said."""

    columns: Sequence[str]
    data: Sequence[Sequence[Any]]
    rows: Sequence[Rows]
    champion: np.ndarray

    def body(self) -> dict[str, Any]:
        return {"dataframe_split": {"columns": self.columns, "data": self.data}}


@dataclass(frozen=True)
class ReplayedLog:
    """What the log has for a replay: the requests, the newest first, and how many rows were left out for which reason. Damaged files of
    the log are left out, and counted."""

    requests: Sequence[LoggedRequest]
    left_out: Counter[str]
    days: float
    pair: Pair
    damaged_files: int = 0

    @property
    def rows(self) -> int:
        return sum(len(request.data) for request in self.requests)

    def __str__(self) -> str:
        left = "".join(f"; {count:,} rows left out: they {why}" for why, count in self.left_out.most_common())
        damaged = f"; damaged files left out: {self.damaged_files}" if self.damaged_files else ""
        return f"{len(self.requests):,} logged requests of the last {self.days:g} d, {self.rows:,} rows{left}{damaged}"


def replayed_log(
    context: RolloutContext, model: str, champion: RoutedSlot, candidate: RoutedSlot, settings: Rollout
) -> ReplayedLog:
    """The requests to replay. Raises RolloutError when there are none, or when log or packages cannot be read."""
    subject = f"version {candidate.version} of {model}"
    since = context.clock() - timedelta(days=settings.replay_days)
    try:
        pair = Pair.of(context.registry, model, champion, candidate)
        if unlike := pair.unlike_times:
            raise ValueError(unlike)
        newest = newest_rows(predictions_folder(context.home, model), since, settings.replay_rows)
        live = live_at(context.ledger, model)
        known_since = live.since if live is not None and live.package.is_same(champion.package) else ""
        left_out: Counter[str] = Counter()
        dated = [request for table in newest.tables for request in _requests(table, pair, known_since, left_out)]
    except (PackageRefused, PerennialError, OSError, ValueError, KeyError) as error:
        raise RolloutError(
            subject, f"logged requests cannot be replayed ({error})", "use another rollout.strategy"
        ) from error
    dated.sort(key=lambda of: of[0], reverse=True)
    first = _first(dated, settings.replay_rows)
    log = ReplayedLog(first, left_out, settings.replay_days, pair, newest.damaged_files)
    if not log.requests:
        raise RolloutError(
            subject,
            f"no logged request can be replayed: {log}",
            "set a longer rollout.replay_days, or use another rollout.strategy",
        )
    return log


def _first(dated: Sequence[tuple[datetime, LoggedRequest]], most_rows: int) -> list[LoggedRequest]:
    """As many requests as have at most so many rows together, and one at least."""
    first: list[LoggedRequest] = []
    rows = 0
    for _, request in dated:
        rows += len(request.data)
        if first and rows > most_rows:
            break
        first.append(request)
    return first


def _requests(
    table: pa.Table, pair: Pair, known_since: str, left_out: Counter[str]
) -> Iterator[tuple[datetime, LoggedRequest]]:
    """The requests in a table of the log, each with its time; rows that are not in the log as they were asked are counted."""
    logged = features_of(table)
    whys = _whys(logged, len(table), pair)
    starts = _starts(table)
    kept = [(a, b) for a, b in zip(starts, [*starts[1:], len(table)], strict=True) if not any(whys[a:b])]
    for a, b in zip(starts, [*starts[1:], len(table)], strict=True):
        if reason := next(filter(None, whys[a:b]), ""):
            left_out[reason] += b - a
    if not kept:
        return
    places = np.concatenate([np.arange(a, b) for a, b in kept])
    exact = {name: values[places] for name, values in logged.items()}
    champion, candidate = (rows_of(exact, runtime) for runtime in (pair.champion, pair.candidate))
    at = table["received_at"].take(places)
    champions = _champions_answers(table.take(places), pair, champion, known_since)
    reader = pair.candidate.reader
    names = [*reader.names, *([reader.event_time] if reader.ages else [])]
    if reader.ages:
        candidate.times = event_times(table.take(places))
    start = 0
    for a, b in kept:
        end = start + b - a
        rows = [_part(rows, start, end) for rows in (champion, candidate)]
        yield at[start].as_py(), LoggedRequest(names, _values(rows[1], reader), rows, champions[start:end])
        start = end


def _starts(table: pa.Table) -> list[int]:
    """The places at which a request's rows begin: they have its id and its time, and follow each other."""
    ids, times = table["request_id"].to_pylist(), table["received_at"].to_pylist()
    return [i for i in range(len(table)) if i == 0 or (ids[i], times[i]) != (ids[i - 1], times[i - 1])]


def _champions_answers(table: pa.Table, pair: Pair, rows: Rows, known_since: str) -> np.ndarray:
    """What the champion answered to each row, as logged since it went live, and else what its package says."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not known_since:
        return pair.champion.predict(rows)
    own = pc.and_(
        pc.equal(table["version"], pair.slots[0].version),
        # A number of the registry may have named another package before.
        pc.greater_equal(
            table["received_at"], pa.scalar(datetime.fromisoformat(known_since), table["received_at"].type)
        ),
    )
    return said(table, own.to_numpy(), pair.champion, rows)


def _whys(logged: Mapping[str, np.ndarray], count: int, pair: Pair) -> list[str]:
    """For each row why it is not in the log as it was asked, in words that follow "they"; '' when it is."""
    whys = [""] * count
    for reader in (pair.champion.reader, pair.candidate.reader):
        for name, number in _columns(reader):
            for place, why in enumerate(_whys_of(name, number, logged.get(name), count, name in reader.doubles)):
                whys[place] = whys[place] or why
        # Behind their sizes: of a personal text that was dropped these lack too.
        for column in reader.fields:
            if any(comparable.is_group(column, name) and name not in logged for name in column.matrix):
                whys = [why or f"lack {comparable.in_groups(column)}" for why in whys]
    return whys


def _columns(reader: Reader) -> list[tuple[str, bool]]:
    """(name, whether it is a number) of each feature but the groups of words."""
    numbers = [(n, True) for c in reader.fields for n in c.matrix if not comparable.is_group(c, n)]
    return numbers + [(name, False) for name in reader.texts]


def _whys_of(name: str, number: bool, values: np.ndarray | None, count: int, double: bool) -> Sequence[str]:
    if values is None:
        return [f"lack {name}, which was not asked for, or is personal and dropped"] * count
    if number != np.issubdtype(values.dtype, np.number):
        return [f"have {name} in another kind, or as a pseudonym"] * count
    if number:
        rounded = double and values.dtype == "float32"
        return [f"have {name} rounded to float32, and a version takes float64" if rounded else ""] * count
    hidden = f"have {name} as a pseudonym, because it is personal"
    return [hidden if value and PSEUDONYM.fullmatch(value) else "" for value in values]


def _part(rows: Rows, start: int, end: int) -> Rows:
    return Rows(rows.numbers[start:end], rows.texts[start:end], rows.keys[start:end], rows.times[start:end])


def _values(rows: Rows, reader: Reader) -> list[list[Any]]:
    """The rows' values as a JSON request has them."""
    columns = [reader.schema[name] for name in reader.names]
    ends = list(accumulate(len(column.matrix) for column in columns))

    def cell(column: Column, values: Sequence[float], asked: float | None) -> Any:
        if column.parts:
            return column.written(spelt_again(column, values, asked, reader.zone))
        return column.of_numbers(values)

    return [
        [
            cell(column, numbers[end - len(column.matrix) : end], times.days(moment))
            for column, end in zip(columns, ends, strict=True)
            if not column.is_category
        ]
        + [text or None for text in texts]
        + ([moment] if reader.ages else [])
        for numbers, texts, moment in zip(rows.numbers.tolist(), rows.texts.tolist(), rows.times, strict=True)
    ]


def _answered(predictions: Any, classes: Sequence[str]) -> np.ndarray:
    """The predictions of an answer, by name where there are classes. Raises ValueError, KeyError or TypeError for any other."""
    rows = [[row[name] for name in classes] for row in predictions] if classes else predictions
    answered = np.array(rows, "float64")
    if answered.ndim != (2 if classes else 1):
        raise ValueError(f"predictions of the shape {answered.shape}")
    return answered


class Replay:
    """Sends the log's requests to a slot, one after the other; each `look()` goes on for a second and says what came of all.

    Requests that were answered 4xx by the candidate count as refused, since they were answered before.
    """

    def __init__(self, log: ReplayedLog, slow_ms: float | None, client: httpx.Client) -> None:
        self.log, self._slow_ms, self._client = log, slow_ms, client
        self._left = iter(log.requests)
        self.done = False
        self.left_out = Counter(log.left_out)
        self._sent = self._failed = self._refused = self._slow = self._timed = 0

    @classmethod
    def of(cls, log: ReplayedLog, proven: ProvenSlot, settings: Rollout) -> Self:
        """A replay to a slot that has proven itself."""
        address = proven.routed.address
        client = httpx.Client(
            base_url=address,
            headers=dict(proven.golden_headers),
            timeout=settings.serving.request_s,
            verify=is_https(address),
        )
        return cls(log, settings.limits.p99_ms, client)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def sent(self) -> int:
        """The requests that count so far."""
        return self._sent

    @property
    def rows(self) -> int:
        """The rows whose predictions were compared so far."""
        return self.log.pair.sides.rows

    def look(self) -> Evidence:
        """Sends more requests, for a second, and returns the evidence of all so far."""
        until = time.monotonic() + LOOK_S
        while not self.done and time.monotonic() < until:
            request = next(self._left, None)
            if request is None:
                self.done = True
            else:
                self._send(request)
        return self._evidence()

    def _send(self, request: LoggedRequest) -> None:
        start = time.perf_counter()
        try:
            answer = self._client.post("/invocations", json=request.body())
        except httpx.HTTPError:
            self._sent += 1
            self._failed += 1
            return
        passed_ms = (time.perf_counter() - start) * 1000
        if answer.status_code in NO_EVIDENCE:
            self.left_out[NO_EVIDENCE[answer.status_code]] += len(request.data)
            return
        self._sent += 1
        if answer.status_code != 200:
            self._failed += answer.status_code >= 500
            self._refused += answer.status_code < 500
            return
        try:
            answered = _answered(answer.json()["predictions"], self.log.pair.candidate.classes)
            if len(answered) != len(request.data):
                raise ValueError(f"{len(answered)} predictions for {len(request.data)} rows")
        except (ValueError, KeyError, TypeError):
            self._failed += 1
            return
        self._timed += 1
        self._slow += self._slow_ms is not None and passed_ms > self._slow_ms
        self.log.pair.compare(request.rows, request.champion, answered)

    def _evidence(self) -> Evidence:
        first, *distribution = self.log.pair.sides.paired()
        once, *once_distribution = self.log.pair.distinct_sides.paired()
        return Evidence(
            Counted(self._failed, self._sent),
            slow=Counted(self._slow, self._timed) if self._slow_ms is not None else None,
            sides=first,
            distribution=tuple(distribution),
            distinct_rows=once.of,
            distinct_sides=once,
            distinct_distribution=tuple(once_distribution),
            refused=Counted(self._refused, self._sent),
            answered_before=True,
        )
