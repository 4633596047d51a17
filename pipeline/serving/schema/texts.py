"""What a model gets of a free text: its number of characters and of words, and, where the schema asks for groups of words, how often it
has a word of each group. Nothing else knows how a text is encoded.

A word's group is its hash (Weinberger 2009), so that no vocabulary is kept: any language and any new word has a group. Words are runs of
letters and digits, without regard to upper and lower case.

The prediction log has these numbers and never the text, which may name anybody. A request that is sent again from the log has a text
of as many characters, and of as many words of each group, in its place: to the model it is the same.
"""

from __future__ import annotations

import functools
import math
import re
import zlib
from collections.abc import Sequence

import numpy as np

PARTS = ("characters", "words")
WORD = re.compile(r"\w+")


def names(column: str, groups: int = 0) -> tuple[str, ...]:
    """What the column's numbers are called, in the matrix, the log and the drift report.

    The number of groups is in the name: with another number of groups, group 3 has other words, and must not be taken for this one.
    """
    return (
        *(f"{column} {part}" for part in PARTS),
        *(f"{column} word group {n + 1} of {groups}" for n in range(groups)),
    )


def names_before(column: str, groups: int) -> tuple[str, ...]:
    """`names`, as pipelines have them that were fitted before the number of groups was in the name."""
    return (*names(column), *(f"{column} word {group}" for group in range(groups)))


def encoded(text: str | None, groups: int = 0) -> tuple[float, ...]:
    """The numbers of a text; NaN for a missing one. The number of words is of what lies between spaces and line ends."""
    if text is None:
        return (math.nan,) * (len(PARTS) + groups)
    size = float(len(text)), float(len(text.split()))
    if not groups:
        return size
    counts = [0.0] * groups
    for word in WORD.findall(text.casefold()):
        counts[_group(word, groups)] += 1.0
    return (*size, *counts)


def block(values: Sequence[str | None], groups: int = 0) -> np.ndarray:
    """`encoded` of many texts, float32 (rows, numbers): no text is so long that float32 does not hold its counts."""
    numbers = np.zeros((len(values), len(PARTS) + groups), "float32")
    for row, text in zip(numbers, values, strict=True):
        if text is None:
            row[:] = math.nan
            continue
        row[: len(PARTS)] = len(text), len(text.split())
        if groups:
            for word in WORD.findall(text.casefold()):
                row[len(PARTS) + _group(word, groups)] += 1.0
    return numbers


def _group(word: str, groups: int) -> int:
    return zlib.crc32(word.encode()) % groups


@functools.cache
def _letters(groups: int) -> dict[int, str]:
    """A word of one letter for each group."""
    # Up to the Chinese ones, which are enough for 4,096 groups.
    letters = map(chr, range(0x61, 0xA000))
    found: dict[int, str] = {}
    for letter in letters:
        if len(found) == groups:
            break
        if letter.casefold() == letter and WORD.fullmatch(letter):
            found.setdefault(_group(letter, groups), letter)
    return found


def stand_in(numbers: Sequence[float]) -> str | None:
    """A text that is encoded as `numbers`; None where it was missing."""
    if any(number != number for number in numbers):
        return None
    characters, words = (int(number) for number in numbers[:2])
    counts = numbers[len(PARTS) :]
    if not counts:
        return " " * characters if words == 0 else "x " * (words - 1) + "x" * (characters - 2 * (words - 1))
    letters = _letters(len(counts))
    tokens = [letters[group] for group, count in enumerate(counts) for _ in range(int(count))]
    # As many words as the text had: without a letter where it had more of these, joined where it had less.
    pieces = [*tokens[: max(words - 1, 0)], "-".join(tokens[max(words - 1, 0) :])] if len(tokens) > words else tokens
    pieces = [*pieces, *["."] * (words - len(pieces))]
    return " ".join(pieces).ljust(characters)
