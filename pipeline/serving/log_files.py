"""The files of a prediction log: what each is called, which of them hold what, and how they are written.

A process writes a part twice a second, so that a kill costs no more, and merges parts as they get many. A file is
called `<slot>-v<version>-<process>-<first>-<last>.parquet` after the first and last part in it; a merged file stands
beside its parts for a while, and then they go. Readers take the widest files.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Requests whose id starts with this were sent by a rollout to prove a slot; they are logged, and are no traffic.
GOLDEN_ID = "golden-"
# It writes a group of rows at once: some five milliseconds.
GROUP_ROWS = 8192
NAME = re.compile(r"^(?P<stem>.+)-(?P<first>\d{9})-(?P<last>\d{9})\.parquet$")


def file_name(stem: str, first: int, last: int) -> str:
    return f"{stem}-{first:09d}-{last:09d}.parquet"


def current_files(folder: Path, pattern: str = "*") -> list[Path]:
    """The files that together hold each row once, those of one process in the order in which they were written."""
    found = [(told, path) for path in folder.glob(f"{pattern}.parquet") if (told := NAME.match(path.name))]
    kept: list[Path] = []
    stem, reached = "", -1
    for told, path in sorted(found, key=lambda f: (f[0]["stem"], f[0]["first"], -int(f[0]["last"]))):
        if told["stem"] != stem:
            stem, reached = told["stem"], -1
        if int(told["first"]) > reached:
            kept.append(path)
            reached = int(told["last"])
    return kept


def stem_of(path: Path) -> str:
    """Which process wrote the file."""
    told = NAME.match(path.name)
    return told["stem"] if told else path.stem


def write(path: Path, batches: Any) -> None:
    """Writes Parquet aside and renames it: a reader sees all of it or nothing. Raises OSError, and leaves nothing then."""
    from arro3.io import write_parquet

    out = _Yielding()
    write_parquet(batches, out, compression="zstd(1)", max_row_group_size=GROUP_ROWS)
    # Another ending: no reader takes it for one of the log.
    aside = path.with_suffix(".part")
    try:
        with aside.open("wb") as file:
            file.write(out.getbuffer())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


class _Yielding(io.BytesIO):
    """Lets other threads run at each write: the writer keeps Python to itself from one to the next, over a whole file otherwise
    (a tenth of a second for 128,000 rows, in which nobody is answered)."""

    def write(self, data: Any) -> int:
        time.sleep(0)
        return super().write(data)


def merged(paths: Iterable[Path]) -> Any:
    """The rows of all files as one table."""
    from arro3.core import Table
    from arro3.io import read_parquet

    tables = [read_parquet(str(path)).read_all() for path in paths]
    return Table.from_batches([b for table in tables for b in table.to_batches()], schema=tables[0].schema)
