"""Counts depth, values and longest text of a JSON body before anything is parsed, piece by piece, as it arrives or is unpacked.

Parsed JSON takes up to a hundred times the room of its text, so a body is refused by its count: the parser never sees it. The scan
agrees with the parser on every byte up to the body's first fault, and the parser stops there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.serving.errors import BadRequest, RequestRefused
from pipeline.serving.schema import Reader

# A body of this size cannot hurt, whatever is in it: 16,000 empty lists, parsed in a millisecond into 2 MB. It is not scanned.
UNSCANNED_BYTES = 32 * 1024
# So much one text may have, as it is sent; a number too. Nothing that is done with one value can be stopped in its middle: each step
# of a longer one (parsing, the model, the log) would hold up all other requests.
MAX_TEXT_BYTES = UNSCANNED_BYTES
# So much all texts may have together beyond the first bytes of each: the parser turns a body's texts into Python's in one go.
SHORT_BYTES, MAX_LONG_BYTES = 64, 4 * 2**20
# The deepest form of request has five levels: the v2 protocol with a list for each row.
MAX_DEPTH = 8
# Values beside the rows' own: names of columns, shapes, parameters.
OTHER_VALUES = 10_000
PIECE_BYTES = 64 * 1024
# What parsing takes at most, measured over every form of request and over bodies that fit none: bytes for each value, with its row
# and all copies of it, and for each byte of the body. One with a NaN is copied before, with null in the place of it.
VALUE_BYTES, TEXT_BYTES, NAN_TEXT_BYTES = 100, 5, 13
# What a value of a binary tensor takes, and a byte of one: a half-precision number of two bytes becomes one of forty.
TENSOR_VALUE_BYTES, TENSOR_BYTES = 60, 20

# By byte: whether it ends or begins a text or a value, in JSON and in CSV. As a table for bytes.translate: that takes a quarter of the
# time of numpy's.
_MARKS, _CSV_MARKS = (bytes(byte in marks for byte in range(256)) for marks in (b'"[]{},:', b'",\r\n'))
# By byte: what it adds to the depth, and whether a value may follow it. A value follows a bracket, a comma or a colon.
_STEP, _LEADS = np.zeros(256, "int8"), np.zeros(256, bool)
_STEP[list(b"[{")], _STEP[list(b"]}")] = 1, -1
_LEADS[list(b"[{,:")] = True
# By byte: whether a quote after it begins a text of a CSV, or goes on with one in which the quote is written twice.
_OPENS = np.zeros(256, bool)
_OPENS[list(b',\r\n"')] = True


@dataclass(frozen=True, slots=True)
class Bounds:
    """How deep a body may be nested, how many values it may have (names of an object's members are values too), and how long one
    of them may be in bytes."""

    depth: int
    values: int
    reason: str
    text: int = MAX_TEXT_BYTES

    @classmethod
    def of(cls, reader: Reader, max_rows: int) -> Bounds:
        """What a request of `max_rows` rows needs in the form that has most values: an object for each row."""
        reason = f"at most {max_rows} rows of {reader.columns} columns are allowed; split it"
        return cls(MAX_DEPTH, max_rows * (2 * reader.columns + 2) + OTHER_VALUES, reason)


class Scan:
    """The scan of one body. `end` is the length of its JSON, where other bytes follow it."""

    def __init__(self, bounds: Bounds, end: int | None = None) -> None:
        self._bounds, self.end, self._left = bounds, end, end
        self._depth, self._in_string, self._backslash = 0, False, b""
        # The bytes since the last mark: so much has come of a text or a number.
        self._text = self._long = 0
        self._nan, self._last = False, b""
        # The bytes of JSON, and those after it.
        self._json_bytes = self._tensor_bytes = 0
        self.values = 0

    def parse_bytes(self) -> int:
        """The memory in bytes that parsing what has been fed takes at most."""
        tensors = min(self._tensor_bytes * TENSOR_BYTES, self._bounds.values * TENSOR_VALUE_BYTES)
        return self.values * VALUE_BYTES + self._json_bytes * (NAN_TEXT_BYTES if self._nan else TEXT_BYTES) + tensors

    def feed(self, piece: bytes) -> None:
        """Counts the next piece of the body. Raises RequestRefused when the body is over a bound."""
        for start in range(0, len(piece), PIECE_BYTES):
            part = piece[start : start + PIECE_BYTES]
            if self._left is not None:
                self._tensor_bytes += max(0, len(part) - self._left)
                part = part[: self._left]
                self._left -= len(part)
            self._json_bytes += len(part)
            if part:
                self._feed(part)

    def _feed(self, piece: bytes) -> None:
        if b"\0" in piece:
            # No JSON in UTF-8 has this byte. Python's parser would take the body for UTF-16, where these counts mean nothing.
            raise BadRequest("the body is not JSON in UTF-8 (it has a byte of 0)")
        # In pieces: a search of a whole body would keep Python from all other requests meanwhile. A byte is found faster than a word.
        if not self._nan and b"N" in (begun := self._last + piece):
            self._nan = b"NaN" in begun
        self._last = piece[-2:]
        piece = self._without_escapes(piece)
        places, marks = _marked(piece, _MARKS)
        quotes, outside = self._outside_strings(marks)
        self._refuse_long_text(places[quotes | outside], len(piece))
        found = marks[outside]
        self.values += int(np.count_nonzero(_LEADS[found]))
        if self.values > self._bounds.values:
            raise RequestRefused(413, f"the body has more than {self._bounds.values} values; {self._bounds.reason}")
        if len(found):
            depths = np.cumsum(_STEP[found], dtype="int64")
            if self._depth + int(depths.max()) > self._bounds.depth:
                raise BadRequest(f"the body is nested deeper than {self._bounds.depth} levels")
            self._depth += int(depths[-1])

    def _refuse_long_text(self, ends: np.ndarray, length: int) -> None:
        """Measures the texts and numbers between `ends`, the places of marks in a piece of `length` bytes."""
        longest, long, self._text = _runs(self._text, ends, length)
        if longest > self._bounds.text:
            # Spaces between two values are counted with what they stand beside.
            raise too_long("the body", "a text, a number or a gap between values")
        self._long += long
        _refuse_much_text(self._long)

    def _without_escapes(self, piece: bytes) -> bytes:
        """The piece with each escaped backslash and quote replaced. A backslash at its end belongs to the next piece."""
        piece = self._backslash + piece
        self._backslash = b""
        if b"\\" not in piece:
            return piece
        piece = piece.replace(b"\\\\", b"..")
        if piece.endswith(b"\\"):
            self._backslash, piece = b"\\", piece[:-1]
        return piece.replace(b'\\"', b"..")

    def _outside_strings(self, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(which of the marks are quotes, which are neither quotes nor within strings)."""
        quotes = marks == ord('"')
        if not quotes.any():
            return quotes, np.full(len(marks), not self._in_string)
        inside = np.logical_xor.accumulate(quotes) ^ self._in_string
        self._in_string = bool(inside[-1])
        return quotes, ~(inside | quotes)


def too_long(subject: str, what: str = "a text or a number") -> RequestRefused:
    """The refusal of a text that is longer than any may be."""
    return RequestRefused(
        413,
        f"{subject} has {what} of more than {MAX_TEXT_BYTES // 1024} KiB, which is the most for one",
    )


class CsvScan:
    """The count of a CSV body. A comma may be part of a text, so no count of values is too many: the memory for it is the bound.

    A run of bytes without comma, quote or line end is longer in no value that is allowed, and a line in none of `columns` values.
    """

    def __init__(self, columns: int, max_rows: int) -> None:
        self.values = self._bytes = 0
        self._longest_line = (columns + 1) * (MAX_TEXT_BYTES + 3)
        self._text = self._line = self._long = 0
        self._lines = _Lines(max_rows)

    def parse_bytes(self) -> int:
        """As `Scan.parse_bytes`."""
        return self.values * VALUE_BYTES + self._bytes * TEXT_BYTES

    def feed(self, piece: bytes) -> None:
        """Counts the ends of values in the next piece of the body. Raises RequestRefused for a value that is too long, or too many rows."""
        for start in range(0, len(piece), PIECE_BYTES):
            part = piece[start : start + PIECE_BYTES]
            self._bytes += len(part)
            places, marks = _marked(part, _CSV_MARKS)
            ends = marks != ord('"')
            self.values += int(np.count_nonzero(ends))
            longest, long, self._text = _runs(self._text, places, len(part))
            if longest > MAX_TEXT_BYTES:
                raise too_long("the body")
            self._long += long
            _refuse_much_text(self._long)
            longest, _, self._line = _runs(self._line, places[ends & (marks != ord(","))], len(part))
            if longest > self._longest_line:
                raise RequestRefused(413, f"the body has a line of more than {self._longest_line // 1024} KiB")
            self._lines.feed(part, places, marks)


class _Lines:
    """Counts the lines of a CSV that are rows, up to the first quote that the parser takes for text or refuses."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows, self._count, self._known = max_rows, 0, True
        self._in_quotes = self._closed = False
        self._last = ord("\n")

    def feed(self, part: bytes, places: np.ndarray, marks: np.ndarray) -> None:
        """Counts on in the next part with its marks. Raises RequestRefused for more lines than there may be rows."""
        if not self._known:
            return
        if self._closed and (len(places) == 0 or places[0] > 0):
            self._known = False
            return
        quotes = marks == ord('"')
        inside = np.logical_xor.accumulate(quotes) ^ self._in_quotes
        # The byte before each mark; and whether another mark follows at once, or the part ends.
        before = np.frombuffer(bytes((self._last,)) + part, "uint8")[places]
        followed = np.append(places[1:], len(part)) == places + 1
        odd = quotes & np.where(inside, ~_OPENS[before], ~followed)
        if odd.any():
            self._known = False
            first = int(odd.argmax())
            marks, inside, before = marks[:first], inside[:first], before[:first]
        ends = (marks != ord(",")) & (marks != ord('"')) & ~inside
        # An empty line is no row, and a line feed after a carriage return no line.
        self._count += int(np.count_nonzero(ends & (before != ord("\n")) & (before != ord("\r"))))
        if self._count > self._max_rows + 1:
            raise too_many_rows(self._max_rows + 1, self._max_rows)
        if len(inside):
            self._in_quotes = bool(inside[-1])
        self._last = part[-1]
        self._closed = self._last == ord('"') and not self._in_quotes


def too_many_rows(rows: int, max_rows: int) -> RequestRefused:
    """The refusal of a request that has more rows than the settings allow."""
    return RequestRefused(413, f"the request has {rows} rows, at most {max_rows} are allowed; split it")


def _marked(piece: bytes, table: bytes) -> tuple[np.ndarray, np.ndarray]:
    """(the places of the bytes that the table marks, those bytes)."""
    places = np.flatnonzero(np.frombuffer(piece.translate(table), bool))
    return places, np.frombuffer(piece, "uint8")[places]


def _runs(before: int, ends: np.ndarray, length: int) -> tuple[int, int, int]:
    """(the longest run of bytes between `ends`, how many bytes those that have ended are longer than SHORT_BYTES together, what of the
    last one is in this piece of `length` bytes); `before` is what came of the first one before it."""
    if len(ends) == 0:
        return before + length, 0, before + length
    first, runs, last = before + int(ends[0]), np.diff(ends) - 1, length - int(ends[-1]) - 1
    long = max(0, first - SHORT_BYTES) + int(np.maximum(runs - SHORT_BYTES, 0).sum())
    return max(first, int(runs.max(initial=0)), last), long, last


def _refuse_much_text(long: int) -> None:
    if long > MAX_LONG_BYTES:
        most = f"{MAX_LONG_BYTES // 2**20} MiB of text beyond the first {SHORT_BYTES} bytes of each value, gaps between values counted too"
        raise RequestRefused(413, f"the body has more than {most}; split it")
