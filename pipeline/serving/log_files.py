"""The files of a prediction log: their names, which of them are current, and how they are written.

A process writes a part twice a second, so that a kill loses no more than that, and merges parts when they are many. A file is
named `<slot>-v<version>-<process>-<first>-<last>.parquet` after the first and the last part in it. A merged file and its parts
exist side by side for a while before the parts are deleted; readers take the files that cover the most parts.

A file is complete and on the disk before it has that name. One that is cut off, empty or overwritten all the same is damaged:
readers leave it out and say so, and a writer that meets it names it `….damaged`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import os
import re
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Golden requests are logged and do not count as traffic. The column `golden` says which rows are theirs; in logs of older slots,
# which lack it, their ids begin with this.
GOLDEN, GOLDEN_ID = "golden", "golden-"
# The Parquet writer holds Python's lock for one group at a time: some five milliseconds.
GROUP_ROWS = 8192
LOG, ASIDE, DAMAGED = ".parquet", ".part", ".damaged"
MAGIC = b"PAR1"
# Who copies files into the folder has not finished yet when they are younger.
SETTLED_S = 60.0
FILE_NAME = re.compile(r"^(?P<stem>.+)-(?P<first>\d{9})-(?P<last>\d{9})\.parquet$")


def file_name(stem: str, first: int, last: int) -> str:
    """The name of a file with the parts `first` to `last` of the process that `stem` names."""
    return f"{stem}-{first:09d}-{last:09d}.parquet"


@dataclass(frozen=True)
class Listed:
    """`files` together hold each row once, those of one process in the order in which they were written; `damaged` are left out."""

    files: list[Path]
    damaged: list[Path]


def listed(folder: Path, pattern: str = "*", unreadable: Collection[Path] = ()) -> Listed:
    """The files of the log, but for damaged ones: of a damaged file that was merged, its parts while they are still there.

    `unreadable` are known to be damaged. Raises OSError when the folder is there and cannot be read.
    """
    try:
        paths = [folder / name for name in fnmatch.filter(os.listdir(folder), f"{pattern}.*")]
    except FileNotFoundError:
        paths = []
    named = [(name, path) for path in paths if (name := FILE_NAME.match(path.name))]
    found = Listed([], sorted(path for path in paths if path.suffix == DAMAGED))
    stem, covered = "", -1
    for name, path in sorted(named, key=lambda f: (f[0]["stem"], f[0]["first"], -int(f[0]["last"]))):
        if name["stem"] != stem:
            stem, covered = name["stem"], -1
        if int(name["first"]) <= covered:
            continue
        try:
            whole = path not in unreadable and fault(path) is None
        except FileNotFoundError:
            continue
        except OSError:
            whole = False
        if whole:
            found.files.append(path)
            covered = int(name["last"])
        else:
            found.damaged.append(path)
    return found


def fault(path: Path) -> str | None:
    """Why a file is no whole Parquet, in words that follow its name; None when it seems to be whole, from its first and last bytes.

    Raises OSError when that cannot be seen.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        return "is no file"
    if about.st_size <= 2 * len(MAGIC) + 4:
        return f"has {about.st_size} bytes"
    with path.open("rb") as file:
        head = file.read(len(MAGIC))
        file.seek(-len(MAGIC) - 4, os.SEEK_END)
        length, tail = int.from_bytes(file.read(4), "little"), file.read(len(MAGIC))
    whole = head == tail == MAGIC and 0 < length <= about.st_size - 2 * len(MAGIC) - 4
    return None if whole else "is cut off or was overwritten"


def set_aside(path: Path) -> bool:
    """Gives a damaged file a name that no reader opens; False when it is gone. Raises OSError."""
    try:
        path.rename(path.with_suffix(DAMAGED))
    except FileNotFoundError:
        return False
    return True


def left_behind(folder: Path) -> Iterator[tuple[Path, str]]:
    """The damaged files, each with its fault, that earlier processes left. What they wrote wholly and did not name yet is named here."""
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix not in (LOG, ASIDE) or time.time() - path.stat().st_mtime < SETTLED_S:
                continue
            if (why := fault(path)) is not None:
                yield path, why
            elif path.suffix == ASIDE:
                path.replace(path.with_suffix(LOG))
        except OSError:
            # Another process of the slot does the same.
            continue


def stem_of(path: Path) -> str:
    """The part of a file's name that identifies the process that wrote it."""
    name = FILE_NAME.match(path.name)
    return name["stem"] if name else path.stem


def make_private(folder: Path) -> None:
    """Makes the folder of a log where it is missing. It and its files, old ones too, are then their owner's alone.

    Files of another owner are left as they are: in such a folder nobody else reaches them. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in (folder, *folder.glob(f"*{LOG}"), *folder.glob(f"*{DAMAGED}")):
        with contextlib.suppress(PermissionError, FileNotFoundError):
            path.chmod(0o700 if path == folder else 0o600)


def write(path: Path, batches: Any) -> None:
    """Writes Parquet aside and renames it, so that a reader sees all of it or nothing. Raises OSError and then leaves nothing.

    It waits until the disk has the file, so that no loss of power leaves an empty one. The file is its owner's alone: rows are
    data of people.
    """
    from arro3.io import write_parquet

    buffer = _YieldingBuffer()
    write_parquet(batches, buffer, compression="zstd(1)", max_row_group_size=GROUP_ROWS)
    # Not .parquet: no reader takes it for a file of the log.
    aside = path.with_suffix(ASIDE)
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # Not every file system can; the file has its name all the same.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _YieldingBuffer(io.BytesIO):
    """Lets other threads run at each write. Between two writes the Parquet writer holds Python's lock; without this, over a whole
    file (a tenth of a second for 128,000 rows, in which no request is answered)."""

    def write(self, data: Any) -> int:
        time.sleep(0)
        return super().write(data)


class Damaged(Exception):
    """A file of the log that cannot be read; str() says why, in words that follow its name."""


def read(path: Path, columns: Any = None) -> Any:
    """The rows of a file as an Arrow table. Raises Damaged, also when its columns are not `columns`, or OSError."""
    from arro3.io import read_parquet

    if (why := fault(path)) is not None:
        raise Damaged(why)
    try:
        table = read_parquet(str(path)).read_all()
    except OSError:
        raise
    except BaseException as error:
        # A panic of the Parquet reader is no Exception.
        raise Damaged(f"cannot be read ({str(error)[:200]})") from error
    if columns is not None and _columns(table.schema) != _columns(columns):
        raise Damaged("has other columns")
    return table


def _columns(schema: Any) -> list[tuple[str, Any]]:
    return [(field.name, field.type) for field in schema]


def together(tables: Iterable[Any]) -> Any:
    """The rows of all tables, which have the same columns, as one Arrow table."""
    from arro3.core import Table

    tables = list(tables)
    return Table.from_batches([b for table in tables for b in table.to_batches()], schema=tables[0].schema)
