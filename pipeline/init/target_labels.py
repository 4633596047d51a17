"""Labels that are one answer in several spellings, such as yes, Yes and Y: each would be a class of its own, and the model would be wrong.
And labels that are none, since a missing value is written so."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from dataclasses import replace

from pipeline.data.sql import quoted
from pipeline.data.text_sql import literal
from pipeline.errors import DataError
from pipeline.init.facts import Facts
from pipeline.init.looks import Looks
from pipeline.init.odd_cells import OddCells
from pipeline.init.request import Assumption, Request
from pipeline.serving.schema.spelling import WORDS
from pipeline.training.tasks import TASKS

# More labels than this are names or texts, and are refused or kept as such.
MOST = 1000


def as_numbers(target: Facts, looks: Looks) -> Facts:
    """The target with as many different values as it has numbers: 1 and 1.0 are one label."""
    numbers = target.type == "VARCHAR" and not target.is_truth and target.numbers == target.filled
    if not numbers or not 2 <= target.different <= MOST:
        return target
    return replace(target, different=len(looks.rows_of_numbers()))


def say_zeros(target: Facts, task: str, said: list[Assumption]) -> None:
    """Says that a class 01 is called 1, in the answers too."""
    if target.zeros and target.type == "VARCHAR" and TASKS[task].of_labels:
        number = f"'c' || {quoted(target.name)}"
        why = "a label that is a number is called by it, in the answers too: 01 is 1"
        said.append(
            Assumption(
                "classes", "numbers", why, f"with a letter before them they stay: {number} in a SELECT as --data"
            )
        )


def refuse_spellings(request: Request, target: Facts, looks: Looks, odd: OddCells) -> None:
    """Raises DataError, with the SELECT that writes them alike, for a target of texts some of whose labels differ in spelling alone. Who
    states `--task multiclass` means each of them."""
    is_text = target.type == "VARCHAR" and not (target.is_number or target.is_truth)
    if request.task not in (None, "binary") or not is_text or not 2 <= target.different <= MOST:
        return
    labels = list(looks.labels())
    words = [label for label in labels if label.lower() in WORDS]
    cell = f"nfc_normalize(lower(trim({quoted(target.name)})))"
    if len(labels) > 2 and len(words) == len(labels):
        same = [label for label in labels if WORDS[label.lower()]]
        sql = f"CASE {' '.join(_when(cell, words, truth) for truth in (True, False))} END"
    else:
        alike = defaultdict(list)
        for label in labels:
            alike[unicodedata.normalize("NFC", label.lower())].append(label)
        same, sql = max(alike.values(), key=len), cell
    if len(same) > 1:
        raise DataError(
            f"--target {target.name}",
            f"has labels that differ in spelling alone, {', '.join(map(repr, same[:5]))}, and each would be a class",
            f"write them alike, for example with --data {odd.select(target.name, sql)}, or say --task multiclass",
        )


def say_missing(target: Facts, looks: Looks, odd: OddCells, said: list[Assumption]) -> None:
    """Says which texts of the target count as no label: `None` may be a class, as of a damage. Raises DataError where one label is left."""
    found = looks.missing_labels() if target.type == "VARCHAR" else {}
    if not found:
        return
    rows, words = sum(found.values()), ", ".join(map(repr, found))
    cell = f"trim({quoted(target.name)})"
    sql = f"CASE WHEN {cell} IN ({', '.join(map(literal, found))}) THEN 'no ' || {cell} ELSE {cell} END"
    advice = f"where it is a class: --data {odd.select(target.name, sql)}"
    if target.different == 1:
        seen = (
            f"is {target.example!r} in every row but {rows:,} that say {words}, which is how a missing value is written"
        )
        raise DataError(f"--target {target.name}", seen, advice)
    why = f"{words} is how a missing value is written, and such rows are not learnt from"
    said.append(Assumption("no label", f"{rows:,} row{'s' if rows > 1 else ''}", why, advice))


def _when(cell: str, words: list[str], truth: bool) -> str:
    of = sorted({word.lower() for word in words if WORDS[word.lower()] is truth})
    return f"WHEN {cell} IN ({', '.join(map(literal, of))}) THEN {str(truth).upper()}"
