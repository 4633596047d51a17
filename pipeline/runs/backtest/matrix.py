"""The loss matrix of a model's past: each window's version scored on each later window, made side by side in processes."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.data import known_at_once
from pipeline.errors import DataError, StageError
from pipeline.policy.retraining.base import History
from pipeline.runs.backtest import past as pasts
from pipeline.runs.backtest import signals
from pipeline.runs.backtest.past import Past, Span
from pipeline.runs.backtest.versions import ScoredVersion, VersionMaker, forget_unused
from pipeline.settings.models import Model

log = logging.getLogger(__name__)

# A process takes as long to start as some versions to make.
FEWEST_FOR_PROCESSES = 12


@dataclass(frozen=True)
class LossMatrix:
    """`history` begins with the first window whose version could be trained. `rows` (windows,) are the labelled rows of each window.
    `untrained` has the reason for each later window whose version could not be. `trained` versions were made now. `signals` are figures by their names, in the history's shape
    (signals.py)."""

    history: History
    rows: np.ndarray
    trained: int
    untrained: dict[str, str]
    left_out: tuple[str, ...]
    signals: Mapping[str, np.ndarray] = field(default_factory=dict)


def build(
    name: str,
    model: Model,
    root: Path,
    folder: Path,
    span: Span,
    processes: int | None = None,
    past: Past | None = None,
) -> LossMatrix:
    """The matrix of the model called `name`, whose source's paths start at `root`. What is made is kept in `folder`, version by version,
    also when this is interrupted. `past` is that of the span where it was read before. Raises DataError for a past in which no version can
    be trained."""
    past = past or pasts.read(name, model, root, span)
    maker = VersionMaker(name, model, root, folder, past)
    most = processes or len(os.sched_getaffinity(0))
    versions: dict[int, ScoredVersion] = {}
    for version in made(maker, most):
        versions[version.number] = version
        how = "trained" if version.trained else version.reason or "from the cache"
        log.info("%s: %d of %d versions, %s: %s", name, len(versions), past.windows, _day(past, version.number), how)
    forget_unused(folder)
    return assembled(name, past, [versions[number] for number in range(past.windows)])


def made(maker: VersionMaker, processes: int) -> Iterator[ScoredVersion]:
    """Those that were made before are known by one reading of the source for all of them. It is believed where the versions that are made
    now, or the newest one, learn from the same rows when they are read by themselves."""
    told = _read_at_once(maker)
    before = {number: version for number, rows in told.items() if (version := maker.kept(number, rows)) is not None}
    every = range(maker.past.windows)
    alike = True
    for version in _each(maker, [number for number in every if number not in before] or [every[-1]], processes):
        alike &= version.rows in ("", told.get(version.number, version.rows))
        before.pop(version.number, None)
        yield version
    if not alike:
        log.info(
            "%s: its source has other rows for a window than for a longer time: each is read by itself", maker.name
        )
    yield from before.values() if alike else _each(maker, [*before], processes)


def _read_at_once(maker: VersionMaker) -> dict[int, str]:
    """The fingerprints of what the versions learn from; none where nothing was made before."""
    if next(maker.folder.glob("*/record.json"), None) is None:
        return {}
    windows = [maker.window(number) for number in range(maker.past.windows)]
    try:
        return dict(enumerate(known_at_once.fingerprints(maker.name, maker.model, maker.root, windows)))
    except DataError as error:
        log.info("%s: each window is read by itself, since all at once cannot be: %s", maker.name, error)
        return {}


def _each(maker: VersionMaker, numbers: Sequence[int], processes: int) -> Iterator[ScoredVersion]:
    if processes < 2 or len(numbers) < FEWEST_FOR_PROCESSES:
        yield from map(maker.version, numbers)
        return
    with _on_disk(maker.past) as rows, _pool(maker, rows, processes) as pool:
        waiting = [pool.submit(_version, number) for number in numbers]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BrokenProcessPool as error:
            raise StageError(
                f"backtest of {maker.name}",
                "a process that trained a version was ended",
                "is there enough memory? What was made is kept: run it again",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _on_disk(past: Past) -> Iterator[Path]:
    """The rows of the past in a file that all processes read."""
    with tempfile.TemporaryDirectory(prefix="perennial-backtest-") as folder:
        file = Path(folder) / "rows.arrow"
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, past.rows.schema) as written:
            written.write_table(past.rows)
        yield file


def _pool(maker: VersionMaker, rows: Path, processes: int) -> ProcessPoolExecutor:
    # Not forked: DuckDB and Arrow have threads by now.
    bare = replace(maker, past=replace(maker.past, rows=maker.past.rows.slice(0, 0)))
    started = (bare, rows)
    return ProcessPoolExecutor(min(processes, maker.past.windows), get_context("spawn"), _start, started)


_maker: VersionMaker | None = None


def _start(maker: VersionMaker, rows: Path) -> None:
    """In a process of the pool: one thread each, or they would wait for each other's."""
    global _maker
    import sklearn.ensemble  # noqa: F401, its threads are there then
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    with pa.memory_map(str(rows)) as file:
        table = pa.ipc.open_file(file).read_all()
    _maker = replace(maker, past=replace(maker.past, rows=table))


def _version(number: int) -> ScoredVersion:
    assert _maker is not None
    return _maker.version(number)


def assembled(name: str, past: Past, versions: list[ScoredVersion]) -> LossMatrix:
    """The matrix of the versions of all windows of the past. Raises DataError where too few windows have one at their begin."""
    first = next((version.number for version in versions if version.losses is not None), None)
    if first is None or past.windows - first < pasts.FEWEST:
        raise DataError(
            f"backtest of {name}",
            f"no version can be trained early enough: {versions[0].reason if first is None else versions[first - 1].reason}",
            f"choose another --from; it looked at {past.starts[0]:%Y-%m-%d} to {past.starts[-1]:%Y-%m-%d}",
        )
    losses = np.full((past.windows, past.windows), np.nan)
    for version in versions:
        if version.losses is not None:
            losses[version.number, version.number :] = version.losses
    rows = np.diff(past.begins)[first:]
    history = History(
        losses[first:, first:],
        rows / rows.mean(),
        past.delay,
        _drifted(versions[first:]),
        tuple(_day(past, number) for number in range(first, past.windows)),
    )
    untrained = {_day(past, v.number): v.reason for v in versions[first:] if v.losses is None}
    left_out = tuple(map(_shown, past.left_out))
    return LossMatrix(history, rows, sum(v.trained for v in versions), untrained, left_out, _signals(versions, first))


def _signals(versions: list[ScoredVersion], first: int) -> dict[str, np.ndarray]:
    found = {}
    for name in sorted({name for version in versions for name in version.signals}):
        rows = [(v.number, v.signals[name]) for v in versions if name in v.signals]
        found[name] = signals.matrix(rows, len(versions))[first:, first:]
    return found


def _drifted(versions: list[ScoredVersion]) -> np.ndarray:
    """Whether the look at the start of each window had an alarm about the one before it; of a window without a version nobody knows."""
    return np.array([False, *(version.alarm for version in versions[:-1])])


def _day(past: Past, number: int) -> str:
    return _shown(past.starts[number])


def _shown(time: datetime) -> str:
    return time.isoformat(timespec="minutes")[:16].removesuffix("T00:00")
