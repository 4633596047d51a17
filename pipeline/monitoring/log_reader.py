"""Opens the files of a prediction log one by one. A damaged file, or one that is no log's, hides no row of the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.serving.class_answers import PROBABILITIES
from pipeline.serving.log_files import GOLDEN, Damaged, Listed, listed

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# A slot merges files while they are read; then they are listed anew.
ATTEMPTS = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contents:
    """The columns of a file, and how many rows it has."""

    schema: pa.Schema
    rows: int


@dataclass(frozen=True)
class LogFiles:
    """The files that can be opened, in the order in which each process wrote them, and those that are left out as damaged."""

    contents: Mapping[Path, Contents]
    damaged: Collection[Path]

    @property
    def names(self) -> list[str]:
        return [str(path) for path in self.contents]

    def only(self, paths: Collection[Path]) -> LogFiles:
        """Those of the paths that are among them."""
        return LogFiles({path: file for path, file in self.contents.items() if path in paths}, ())

    def has(self, column: str) -> bool:
        """Whether a file has the column."""
        return any(column in file.schema.names for file in self.contents.values())

    @property
    def golden(self) -> bool:
        """Whether a file says which rows are golden requests'."""
        return self.has(GOLDEN)

    @property
    def probabilities(self) -> bool:
        """Whether a file has the probabilities of several classes."""
        return self.has(PROBABILITIES)

    @property
    def features(self) -> set[str]:
        """The features that the log holds. Personal ones may be left out."""
        schemas = [file.schema for file in self.contents.values()]
        kinds = [schema.field("features").type for schema in schemas if "features" in schema.names]
        return {feature.name for kind in kinds for feature in kind}


@dataclass
class LogReader:
    """Lists the files of a folder, and remembers what is in them and which of them are damaged; says each damaged one once."""

    folder: Path
    pattern: str = "*"
    unreadable: set[Path] = field(default_factory=set)
    _contents: dict[Path, Contents] = field(default_factory=dict)

    def files(self) -> LogFiles:
        """The files as they are now. Raises OSError when the folder cannot be read."""
        while True:
            known, contents = len(self.unreadable), {}
            found = self.listed()
            for path in found.files:
                if (file := self._opened(path)) is not None:
                    contents[path] = file
            if len(self.unreadable) == known:
                self._contents = contents
                return LogFiles(contents, found.damaged)
            # The parts of a merged file that is damaged may be there still.

    def listed(self) -> Listed:
        """The files as they are now, not opened. Raises OSError when the folder cannot be read."""
        return listed(self.folder, self.pattern, self.unreadable)

    def _opened(self, path: Path) -> Contents | None:
        """What is in a file; None when it is gone or damaged."""
        if path in self._contents:
            return self._contents[path]
        try:
            with opened(path) as file:
                return Contents(file.schema_arrow, file.metadata.num_rows)
        except FileNotFoundError:
            return None
        except Damaged as error:
            self.leave_out(path, error)
            return None

    def leave_out(self, path: Path, why: Exception) -> None:
        """Notes that a file is damaged."""
        if path not in self.unreadable:
            logger.warning("%s of the prediction log %s: its rows are left out", path, str(why).splitlines()[0])
        self.unreadable.add(path)


def opened(path: Path) -> pq.ParquetFile:
    """A file of a log. Raises Damaged when it cannot be opened or is none, FileNotFoundError when it is gone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise Damaged(f"cannot be read ({error})") from error
    if foreign := _foreign(file.schema_arrow):
        file.close()
        raise Damaged(f"is no prediction log: it has {foreign}")
    return file


def table(path: Path, read: Callable[[pq.ParquetFile], pa.Table] = lambda file: file.read()) -> pa.Table:
    """What `read` takes from the file. Raises Damaged, or FileNotFoundError."""
    import pyarrow as pa

    with opened(path) as file:
        try:
            return read(file)
        except (OSError, pa.ArrowException) as error:
            raise Damaged(f"cannot be read ({error})") from error


def _foreign(schema: pa.Schema) -> str:
    """What makes these columns none of a prediction log; '' when they are."""
    from pyarrow import types

    def text(kind: Any) -> bool:
        return types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind)

    columns: dict[str, Callable[[Any], bool]] = {
        **dict.fromkeys(("request_id", "version", "slot", "key", "event_time"), text),
        "received_at": types.is_timestamp,
        "prediction": types.is_floating,
    }
    if lacking := [name for name in columns if name not in schema.names]:
        return f"no column {lacking[0]}"
    optional: dict[str, Callable[[Any], bool]] = {GOLDEN: types.is_boolean, "features": types.is_struct}
    optional[PROBABILITIES] = types.is_list
    columns |= {name: is_kind for name, is_kind in optional.items() if name in schema.names}
    other = [name for name, is_kind in columns.items() if not is_kind(schema.field(name).type)]
    return f"{other[0]} as {schema.field(other[0]).type}" if other else ""
