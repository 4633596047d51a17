"""The history of a model's partitions: which revisions of a day have landed, in which order, with how many rows.

The file of a day changes without a new revision: seen at a later as-of, more of its labels are known; and another version of Arrow or of
this project may write the same rows otherwise. A new revision is a file that differs in something that was known already, because rows
came late or were corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pipeline.ledger.columns import holds
from pipeline.ledger.events import FIRST, LATER_LABELS, REVISED, REWRITTEN, DataLanded
from pipeline.ledger.store import EVENTS, Entry, Ledger
from pipeline.settings.models import time_of
from pipeline.settings.source import Source

# The characters of a partition's name that are its month.
MONTH = len("2026-03")


@dataclass(frozen=True)
class Revision:
    """One file of one partition. `number` counts revisions from 1 in the order of landing; files that differ only in the
    labels known at their `as_of` share it. `why` says how the file differs from the ones before it."""

    number: int
    md5: str
    rows: int
    at: str
    run: str
    as_of: str
    why: str


@dataclass(frozen=True)
class LandedPartition:
    """A file that the ledger did not have. `delta_rows` is against the newest file of that partition; `view_of` is the md5 of
    a file of the same revision seen at another as-of or written otherwise, or None; `why` is FIRST, LATER_LABELS, REWRITTEN or REVISED."""

    md5: str
    rows: int
    delta_rows: int
    view_of: str | None
    why: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def revisions(ledger: Ledger, model: str, files: Collection[str] | None = None) -> dict[str, list[Revision]]:
    """The files of every partition, or of those that `files` names, by file name, in the order of landing. A file that several runs landed
    counts once."""
    histories: dict[str, list[Revision]] = {}
    landings = sa.and_(EVENTS.c.kind == DataLanded.KIND, EVENTS.c.model == model)
    if files is not None:
        # Most of years of landings have none of their months.
        months = sorted({f'"{name[:MONTH]}' for name in files})
        landings = sa.and_(landings, sa.or_(sa.false(), *(holds(ledger, month) for month in months)))
    for row in ledger.rows(sa.select(EVENTS).where(landings).order_by(EVENTS.c.seq)):
        entry = Entry[DataLanded](row.seq, row.at, row.model, row.run, row.step, row.kind, row.body, row.hash)
        landed = entry.body.get("landed") or {}
        for name in landed if files is None else landed.keys() & files:
            _add(histories.setdefault(name, []), entry, landed[name])
    return histories


def revisions_of(ledger: Ledger, file: str, model: str = "") -> dict[str, list[Revision]]:
    """The same of one partition, by model, of one model or of all (''); without those that never landed it."""
    histories: dict[str, list[Revision]] = {}
    # The database leaves out what does not have the name, so that of years a few events are read.
    named = EVENTS.c.body.contains(f'"{file}"', autoescape=True)
    query = sa.select(EVENTS).where(EVENTS.c.kind == DataLanded.KIND, named).order_by(EVENTS.c.seq)
    for row in ledger.rows(query.where(EVENTS.c.model == model) if model else query):
        entry = Entry[DataLanded](row.seq, row.at, row.model, row.run, row.step, row.kind, row.body, row.hash)
        if (landed := entry.event.landed.get(file)) is not None:
            _add(histories.setdefault(entry.model, []), entry, landed)
    return histories


def _add(history: list[Revision], entry: Entry[DataLanded], landed: Mapping[str, Any]) -> None:
    md5 = landed["md5"]
    number, seen = 0, landed.get("view_of")
    for revision in history:
        if revision.md5 == md5:
            return
        if revision.md5 == seen:
            number = revision.number
    number = number or max((revision.number for revision in history), default=0) + 1
    why = landed.get("why") or (REVISED if history else FIRST)
    history.append(Revision(number, md5, landed["rows"], entry.at, entry.run, entry.body["as_of"], why))


def new_partitions(
    ledger: Ledger,
    model: str,
    listed: Mapping[str, str],
    folder: Path,
    as_of: str,
    source: Source,
    cached_file: Callable[[str], Path | None],
) -> dict[str, LandedPartition]:
    """Those of a snapshot's files, `listed` as name to md5, that the ledger does not have yet.

    `folder` holds the files. `cached_file(md5)` returns an older file, or None when it is gone; then nothing can show that the
    new file is the same revision, and it counts as another one.
    """
    import pyarrow.parquet as pq

    histories = revisions(ledger, model)
    landed = {}
    for name, md5 in listed.items():
        history, file = histories.get(name, []), folder / name
        if md5 in {revision.md5 for revision in history}:
            continue
        rows = pq.read_metadata(file).num_rows
        same, why = None, REVISED if history else FIRST
        if history and _same_rows(cached_file(history[-1].md5), file):
            same, why = history[-1], REWRITTEN
        elif source.label_time:
            newest_first = reversed(history)
            same = next((r for r in newest_first if _same_revision(r, cached_file(r.md5), as_of, file, source)), None)
            why = LATER_LABELS if same else why
        landed[name] = LandedPartition(
            md5=md5,
            rows=rows,
            delta_rows=rows - (history[-1].rows if history else 0),
            view_of=same.md5 if same else None,
            why=why,
        )
    return landed


def landing_summary(landed: Mapping[str, LandedPartition]) -> str:
    """How many files are new, and of which kind, as in "3 new (2 first, 1 late or corrected rows)"."""
    counts = dict.fromkeys((FIRST, LATER_LABELS, REWRITTEN, REVISED), 0)
    for partition in landed.values():
        counts[partition.why] += 1
    kinds = ", ".join(f"{count} {why}" for why, count in counts.items() if count)
    return f"{len(landed)} new" + (f" ({kinds})" if kinds else "")


def _same_rows(older_file: Path | None, file: Path) -> bool:
    """Whether both files hold the same rows, though not in the same bytes."""
    import pandas as pd

    return older_file is not None and pd.read_parquet(older_file).equals(pd.read_parquet(file))


def _same_revision(older: Revision, older_file: Path | None, as_of: str, file: Path, source: Source) -> bool:
    """Whether both files hold the same rows of what is in both windows and was known at the earlier of the two as-ofs."""
    import pandas as pd

    if older_file is None:
        return False
    (first, early), (last, late) = sorted([(time_of(older.as_of), older_file), (time_of(as_of), file)])
    begin = last - timedelta(days=source.window_days)

    def known(path: Path) -> pd.DataFrame:
        rows = pd.read_parquet(path)
        happened = rows[source.event_time]
        return rows[(happened >= begin) & (happened < first) & (rows[source.label_time] <= first)].reset_index(
            drop=True
        )

    return known(early).equals(known(late))
