"""The history of a model's partitions: which revisions of a day have landed, in which order, with how many rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.ledger.table import Ledger


@dataclass(frozen=True)
class Revision:
    """One content of one partition, numbered from 1 in the order of landing."""

    number: int
    md5: str
    rows: int
    at: str
    run: str


def revisions(ledger: Ledger, model: str) -> dict[str, list[Revision]]:
    """Every partition's revisions, by file name. Two runs that landed the same one at the same time count once."""
    found: dict[str, list[Revision]] = {}
    for event in ledger.events(kind="data_landed", model=model):
        for name, told in event.body["landed"].items():
            history = found.setdefault(name, [])
            if told["md5"] not in {one.md5 for one in history}:
                history.append(Revision(len(history) + 1, told["md5"], told["rows"], event.at, event.run))
    return found


def news(ledger: Ledger, model: str, listed: dict[str, str], folder: Path) -> dict[str, dict[str, Any]]:
    """Those of the snapshot's files (name to md5) that the ledger does not know yet: {"md5", "rows", "delta_rows"} each.

    `delta_rows` is against the newest revision known; rows are read off the Parquet footers in `folder`.
    """
    import pyarrow.parquet as pq

    known = revisions(ledger, model)
    found = {}
    for name, md5 in listed.items():
        history = known.get(name, [])
        if md5 not in {one.md5 for one in history}:
            rows = pq.read_metadata(folder / name).num_rows
            found[name] = {"md5": md5, "rows": rows, "delta_rows": rows - (history[-1].rows if history else 0)}
    return found
