"""Scores the rows of one interval with the champion of this moment, or of the interval's end, and puts the answers into the destination: what the Dag
`score__MODEL` and `perennial score` do.

The rows come in blocks, and their answers wait in files until the interval is whole. Then the destination replaces what it has of
the interval. So doing an interval again, or a kill at any moment, leaves its rows there once.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from pipeline.context import Context
from pipeline.data.scoring_rows import Wanted, scoring_rows
from pipeline.errors import RegistryError, SettingsError
from pipeline.ledger.costs import step_cost
from pipeline.ledger.events import IntervalScored, StepEnded
from pipeline.ledger.metering import read_meter, usage_since
from pipeline.ledger.timeline import LiveVersion, live_at
from pipeline.runs.block_scoring import BlockScorer
from pipeline.runs.destinations.base import IntervalFiles
from pipeline.runs.destinations.select import destination_of
from pipeline.runs.scoring_interval import Interval
from pipeline.settings.models import Model

BLOCK_ROWS = 65_536
EXAMPLE = 'scoring: {cron: "0 5 * * *", destination: {parquet: scores}}'

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counted:
    """The rows of an interval; the first refused one with its reason."""

    rows: int
    refused: int
    first_reason: str
    without_event_time: int


def score_interval(
    context: Context,
    run: str,
    name: str,
    interval: Interval,
    connection_url: Callable[[str], str] | None = None,
) -> IntervalScored:
    """Scores the interval's rows and records it in the ledger; `connection_url` as for `destination_of`.

    Raises SettingsError for a model without `scoring`, RegistryError for one that has no live version, DataError and DestinationError.
    """
    meter = read_meter()
    model = context.params.model(name)
    if model.scoring is None:
        raise SettingsError(
            f"models.{name}.scoring",
            "is not set, so there are no rows to score",
            f"add {EXAMPLE}",
        )
    destination = destination_of(context, name, model.scoring.destination, connection_url)
    with _alone(destination.folder(interval)) as folder:
        # Asked once: a champion that changes meanwhile scores the next interval.
        live = _champion(context, name, interval.end if model.scoring.champion == "of_interval" else None)
        counted = _score(context, name, model, interval, live, folder)
        destination.replace(interval, folder)
    usage = usage_since(meter)
    prices = context.params.prices
    ended = StepEnded(state="success", **vars(usage))
    start, end = str(interval).split("/")
    scored = IntervalScored(
        interval_start=start,
        interval_end=end,
        version=live.version,
        digest=live.digest,
        destination=model.scoring.destination.address,
        wall_s=usage.wall_s,
        cpu_s=usage.cpu_s,
        cost=round(step_cost(ended, prices), 9),
        currency=prices.currency,
        rows_in=counted.rows,
        scored=counted.rows - counted.refused,
        refused=counted.refused,
        first_reason=counted.first_reason,
        without_event_time=counted.without_event_time,
    )
    context.ledger.append(scored, name, run)
    log.info("%s: %s", name, scored.sentence())
    return scored


def _champion(context: Context, name: str, at: datetime | None) -> LiveVersion:
    """The version that was live then; without a time, or where none was, the one that is now."""
    live = live_at(context.ledger, name, at.isoformat()) if at is not None and at < context.clock() else None
    if at is not None and live is None:
        log.info("%s: no version was live at %s, so the one scores that is now", name, f"{at:%Y-%m-%dT%H:%M:%SZ}")
    live = live or live_at(context.ledger, name)
    if live is None:
        raise RegistryError(
            f"model {name}",
            "has no live version to score with",
            f"deploy one: `perennial retrain {name} --deploy`; then score the interval again",
        )
    return live


def _score(context: Context, name: str, model: Model, interval: Interval, live: LiveVersion, folder: Path) -> Counted:
    """Writes the interval's files to `folder`."""
    runtime = context.registry.runtime(name, live.version, live.digest)
    scorer = BlockScorer(runtime, live.version, model.rollout.serving.on_breach, interval.end)
    wanted = Wanted(runtime.features, [c for c in (runtime.reader.key, runtime.reader.event_time) if c])
    rows = refused_rows = 0
    first_reason = ""
    spill = folder / "spill"
    with (
        IntervalFiles(folder, interval, live.version) as files,
        scoring_rows(context.project, name, model, interval.start, interval.end, wanted, BLOCK_ROWS, spill) as batches,
    ):
        for block in batches.reader:
            scored, refused = scorer.score(block, rows)
            files.add(scored, refused)
            rows += len(block)
            refused_rows += len(refused)
            first_reason = first_reason or (f"row {refused[0].row}: {refused[0].reason}" if refused else "")
        if rows == 0:
            files.add(scorer.empty(batches.reader.schema), [])
    shutil.rmtree(spill, ignore_errors=True)
    if batches.without_event_time:
        log.warning(
            "%s: %s rows have no event time that can be read, so they belong to no interval and are not scored",
            name,
            f"{batches.without_event_time:,}",
        )
    if scorer.at_as_of:
        log.warning(
            "%s: %s rows have no %s, so the ages in them are counted to the interval's end, %s",
            name,
            f"{scorer.at_as_of:,}",
            runtime.reader.event_time,
            f"{interval.end:%Y-%m-%dT%H:%M:%SZ}",
        )
    return Counted(rows, refused_rows, first_reason, batches.without_event_time)


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """The empty folder, for one process at a time: another run of the interval waits. A kill ends the lock with its process."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    lock = _locked(path)
    try:
        # What a run left that was killed.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        path.unlink(missing_ok=True)
        lock.close()


def _locked(path: Path) -> IO[str]:
    while True:
        lock = path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s: waits for another run of the same interval", path.name)
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Who had it before has removed the file, and another may lock the next one of its name.
        if path.exists() and os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
            return lock
        lock.close()
