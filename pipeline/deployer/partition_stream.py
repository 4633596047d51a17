"""Files of a prediction log and profiles of them between the deployer and a worker.

Files come in one stream: for each a line of JSON, {"file": its name, "size": in bytes}, and its bytes; at last {}, so that a stream that was
cut off is seen. Neither side holds more than a block of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.monitoring.profiles.kept import Hour

BLOCK = 1 << 18
LONGEST_LINE = 4096


class CutOff(Exception):
    """The stream ended too early, or is none of these."""


def framed(files: Iterable[tuple[str, BinaryIO]]) -> Iterator[bytes]:
    """The stream of the files, each with its partition's name."""
    for name, file in files:
        size = os.fstat(file.fileno()).st_size
        yield json.dumps({"file": name.split(" ")[0], "size": size}).encode() + b"\n"
        while block := file.read(BLOCK):
            yield block
    yield b"{}\n"


def write(stream: Iterable[bytes], folder: Path) -> None:
    """Writes the files of the stream into the folder. Raises CutOff."""
    rest = _Buffered(stream)
    while told := _head(rest.line()):
        with (folder / Path(told["file"]).name).open("wb") as file:
            left = told["size"]
            while left:
                file.write(block := rest.some(left))
                left -= len(block)


def _head(line: bytes) -> dict[str, Any]:
    try:
        told = json.loads(line)
        return {"file": str(told["file"]), "size": int(told["size"])} if told else {}
    except (ValueError, KeyError, TypeError) as error:
        raise CutOff("is no stream of files") from error


class _Buffered:
    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream, self._held = iter(stream), b""

    def line(self) -> bytes:
        while b"\n" not in self._held and len(self._held) < LONGEST_LINE:
            self._held += self._next()
        line, _, self._held = self._held.partition(b"\n")
        return line

    def some(self, most: int) -> bytes:
        block, self._held = (self._held or self._next()), b""
        block, self._held = block[:most], block[most:]
        return block

    def _next(self) -> bytes:
        for block in self._stream:
            if block:
                return block
        raise CutOff("ended too early")


def profiles_body(edges: str, found: Mapping[str, Sequence[Hour]]) -> bytes:
    """What counted profiles are sent as; `edges` is the digest of their layout."""
    from pipeline.monitoring.log_partitions import as_values

    return json.dumps({"edges": edges, "found": {name: as_values(hours) for name, hours in found.items()}}).encode()


def profiles_of(body: bytes) -> tuple[str, dict[str, list[Hour]]]:
    """The reverse. Raises SettingsError."""
    from pipeline.monitoring.log_partitions import hours_of

    try:
        values = json.loads(body)
        found = {str(name): hours_of(hours) for name, hours in values["found"].items()}
        return str(values["edges"]), found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SettingsError("profiles", f"are not as they are sent ({error})", "send those of `count`") from error
