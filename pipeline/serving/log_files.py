"""The files of a prediction log: their names, which of them are current, and how they are written.

A process writes a part twice a second, so that a kill loses no more than that, and merges parts when they are many. A file is
named `<slot>-v<version>-<process>-<first>-<last>.parquet` after the first and the last part in it. A merged file and its parts
exist side by side for a while before the parts are deleted; readers take the files that cover the most parts.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Golden requests are logged and do not count as traffic. The column `golden` says which rows are theirs; in logs of older slots,
# which lack it, their ids begin with this.
GOLDEN, GOLDEN_ID = "golden", "golden-"
# The Parquet writer holds Python's lock for one group at a time: some five milliseconds.
GROUP_ROWS = 8192
FILE_NAME = re.compile(r"^(?P<stem>.+)-(?P<first>\d{9})-(?P<last>\d{9})\.parquet$")


def file_name(stem: str, first: int, last: int) -> str:
    """The name of a file with the parts `first` to `last` of the process that `stem` names."""
    return f"{stem}-{first:09d}-{last:09d}.parquet"


def current_files(folder: Path, pattern: str = "*") -> list[Path]:
    """The files that together hold each row once; those of one process in the order in which they were written."""
    named = [(name, path) for path in folder.glob(f"{pattern}.parquet") if (name := FILE_NAME.match(path.name))]
    current: list[Path] = []
    stem, covered = "", -1
    for name, path in sorted(named, key=lambda f: (f[0]["stem"], f[0]["first"], -int(f[0]["last"]))):
        if name["stem"] != stem:
            stem, covered = name["stem"], -1
        if int(name["first"]) > covered:
            current.append(path)
            covered = int(name["last"])
    return current


def stem_of(path: Path) -> str:
    """The part of a file's name that identifies the process that wrote it."""
    name = FILE_NAME.match(path.name)
    return name["stem"] if name else path.stem


def make_private(folder: Path) -> None:
    """Makes the folder of a log where it is missing. It and its files, old ones too, are then their owner's alone.

    Files of another owner are left as they are: in such a folder nobody else reaches them. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in (folder, *folder.glob("*.parquet")):
        with contextlib.suppress(PermissionError, FileNotFoundError):
            path.chmod(0o700 if path == folder else 0o600)


def write(path: Path, batches: Any) -> None:
    """Writes Parquet aside and renames it, so that a reader sees all of it or nothing. Raises OSError and then leaves nothing.

    The file is its owner's alone: rows are data of people.
    """
    from arro3.io import write_parquet

    buffer = _YieldingBuffer()
    write_parquet(batches, buffer, compression="zstd(1)", max_row_group_size=GROUP_ROWS)
    # Not .parquet: no reader takes it for a file of the log.
    aside = path.with_suffix(".part")
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(buffer.getbuffer())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


class _YieldingBuffer(io.BytesIO):
    """Lets other threads run at each write. Between two writes the Parquet writer holds Python's lock; without this, over a whole
    file (a tenth of a second for 128,000 rows, in which no request is answered)."""

    def write(self, data: Any) -> int:
        time.sleep(0)
        return super().write(data)


def merged(paths: Iterable[Path]) -> Any:
    """The rows of all files as one Arrow table."""
    from arro3.core import Table
    from arro3.io import read_parquet

    tables = [read_parquet(str(path)).read_all() for path in paths]
    return Table.from_batches([b for table in tables for b in table.to_batches()], schema=tables[0].schema)
