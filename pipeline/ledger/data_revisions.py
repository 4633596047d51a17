"""The history of a model's partitions: which revisions of a day have landed, in which order, with how many rows.

A day's file grows by itself: seen at a later as-of, more of its labels are known. That is the same revision, seen later. Rows
that came late or were corrected make another one: of them something is different that was known already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline.ledger.events import FIRST, LATER_LABELS, REVISED, DataLanded
from pipeline.ledger.store import Ledger
from pipeline.settings.models import Source, time_of


@dataclass(frozen=True)
class Revision:
    """One content of one partition. `number` counts from 1 in the order of landing; contents that differ only in the labels
    known at their `as_of` share it. `why` is what made it another content than those before."""

    number: int
    md5: str
    rows: int
    at: str
    run: str
    as_of: str
    why: str


def revisions(ledger: Ledger, model: str) -> dict[str, list[Revision]]:
    """Every partition's contents, by file name, in the order of landing. Two runs that landed the same one count once."""
    found: dict[str, list[Revision]] = {}
    for entry in ledger.events(DataLanded, model=model):
        for name, landed in entry.event.landed.items():
            history = found.setdefault(name, [])
            md5 = landed["md5"]
            if md5 in {known.md5 for known in history}:
                continue
            number = next((known.number for known in history if known.md5 == landed.get("view_of")), None)
            number = number or max((known.number for known in history), default=0) + 1
            why = landed.get("why") or (REVISED if history else FIRST)
            history.append(Revision(number, md5, landed["rows"], entry.at, entry.run, entry.event.as_of, why))
    return found


def news(
    ledger: Ledger,
    model: str,
    listed: dict[str, str],
    folder: Path,
    as_of: str,
    source: Source,
    kept: Callable[[str], Path | None],
) -> dict[str, dict[str, Any]]:
    """Those of the snapshot's files (name to md5) that the ledger does not know yet: {"md5", "rows", "delta_rows",
    "view_of", "why"} each.

    `delta_rows` is against the newest content known; `view_of` is the md5 of one that is the same revision seen at another
    as-of, or None. `folder` holds the files, `kept(md5)` finds an older one, or None where it is gone: then nobody can say
    that it is the same, and it counts as a revision.
    """
    import pyarrow.parquet as pq

    known = revisions(ledger, model)
    found = {}
    for name, md5 in listed.items():
        history = known.get(name, [])
        if md5 in {one.md5 for one in history}:
            continue
        rows = pq.read_metadata(folder / name).num_rows
        file, newest_first = folder / name, reversed(history if source.label_time else [])
        same = next((one for one in newest_first if _same(one, kept(one.md5), as_of, file, source)), None)
        found[name] = {
            "md5": md5,
            "rows": rows,
            "delta_rows": rows - (history[-1].rows if history else 0),
            "view_of": same.md5 if same else None,
            "why": LATER_LABELS if same else REVISED if history else FIRST,
        }
    return found


def told(landed: dict[str, dict[str, Any]]) -> str:
    """What `news` found, in a few words: how many contents are new here, and of what kind."""
    counts = dict.fromkeys((FIRST, LATER_LABELS, REVISED), 0)
    for one in landed.values():
        counts[one["why"]] += 1
    kinds = ", ".join(f"{count} {why}" for why, count in counts.items() if count)
    return f"{len(landed)} new here" + (f" ({kinds})" if kinds else "")


def _same(older: Revision, older_file: Path | None, as_of: str, file: Path, source: Source) -> bool:
    """Whether both hold the same of what is in both windows and was known at the earlier of the two as-ofs."""
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
