"""Values of a category that differ in capitals, in the spaces around them or in how an accent is encoded alone: each is one of its own, in
training and at the endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.data.sql import quoted
from pipeline.init.facts import Facts
from pipeline.init.odd_cells import OddCells
from pipeline.init.request import Assumption
from pipeline.init.table import TABLE

# More values are names or codes, in which capitals may count.
MOST = 1000
# What the values differ in, and the SQL that writes them alike: an é may be one character, or an e and its accent, as a Mac writes names.
RULES = (
    ("capitals or spaces", "lower(trim({}))"),
    ("capitals, spaces or how accents are encoded", "nfc_normalize(lower(trim({})))"),
)


def say(categories: Sequence[str], facts: Mapping[str, Facts], odd: OddCells, said: list[Assumption]) -> None:
    """Says so of each of the columns, with the SELECT that writes them alike."""
    for name in categories:
        if facts[name].type != "VARCHAR" or facts[name].different > MOST:
            continue
        cell = quoted(name)
        found = {rule: _alike(odd, cell, sql.format(cell)) for rule, sql in RULES}
        # Of equals the first: a rule that finds no more is not needed.
        rule, sql = max(RULES, key=lambda each: found[each[0]][0])
        values, some = found[rule]
        if values:
            shown = " and ".join(f"{value!r:.40}" for value in some[:2])
            why = f"{values:,} of its values differ in {rule} alone, like {shown}, and each is one of its own"
            select = odd.select(name, sql.format(cell))
            said.append(
                Assumption("categories", name, why, f"--data {select} makes them alike, as requests must be then")
            )


def _alike(odd: OddCells, cell: str, sql: str) -> tuple[int, list[str]]:
    """(how many values the SQL makes one with another one, the spellings of the first such)."""
    groups = f"SELECT list(DISTINCT {cell} ORDER BY {cell}) AS spelt FROM {TABLE} WHERE {cell} <> '' GROUP BY {sql}"
    query = f"SELECT sum(len(spelt)), min(spelt) FROM ({groups}) WHERE len(spelt) > 1"
    ((values, some),) = odd.connection.execute(query).fetchall()
    return int(values or 0), some or []
