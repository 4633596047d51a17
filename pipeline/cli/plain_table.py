"""A table as text, for commands that must answer at once: rich takes a third of a second for 200 rows, most of them layout."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import combining, east_asian_width

GAP = "   "


class PlainTable:
    """Columns as wide as their longest cell, under a line; a column whose name starts with '>' is aligned to the right."""

    def __init__(self, *columns: str) -> None:
        self._right = [name.startswith(">") for name in columns]
        self._rows: list[Sequence[str]] = [[name.lstrip(">") for name in columns]]

    def add_row(self, *cells: str) -> None:
        self._rows.append(cells)

    def text(self, width: int) -> str:
        """No line is longer than `width` cells of a terminal: the widest columns are folded until the others fit."""
        widths = [max(map(_cells, column)) for column in zip(*self._rows, strict=True)]
        room = width - len(GAP) * (len(widths) - 1)
        while sum(widths) > room and max(widths) > 1:
            widths[widths.index(max(widths))] -= 1
        lines = [line for row in self._rows[:1] for line in self._lines(row, widths)]
        lines.append("─" * (sum(widths) + len(GAP) * (len(widths) - 1)))
        lines += [line for row in self._rows[1:] for line in self._lines(row, widths)]
        return "\n".join(lines)

    def _lines(self, row: Sequence[str], widths: Sequence[int]) -> list[str]:
        folded = [_folded(cell, width) for cell, width in zip(row, widths, strict=True)]
        lines = []
        for number in range(max(map(len, folded))):
            parts = [part[number] if number < len(part) else "" for part in folded]
            padded = [
                " " * (width - _cells(part)) + part if right else part + " " * (width - _cells(part))
                for part, width, right in zip(parts, widths, self._right, strict=True)
            ]
            lines.append(GAP.join(padded).rstrip())
        return lines


def _folded(cell: str, width: int) -> list[str]:
    """The cell in pieces of at most `width`, at spaces where there are some."""
    pieces, piece = [], ""
    for word in cell.split(" "):
        joined = f"{piece} {word}" if piece else word
        if _cells(joined) <= width:
            piece = joined
            continue
        pieces += [piece] if piece else []
        while _cells(word) > width:
            cut = max(1, next(n for n in range(len(word), -1, -1) if _cells(word[:n]) <= width))
            pieces.append(word[:cut])
            word = word[cut:]
        piece = word
    return [*pieces, piece] if piece or not pieces else pieces


def _cells(text: str) -> int:
    """How wide a terminal shows it: most letters of East Asia take two cells."""
    if text.isascii():
        return len(text)
    return sum((2 if east_asian_width(letter) in "WF" else 1) for letter in text if not combining(letter))
