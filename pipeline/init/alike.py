"""Values of a category that differ in capitals or in the spaces around them alone: each is one of its own, in training and at the endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.data.sql import quoted
from pipeline.init.facts import Facts
from pipeline.init.odd_cells import OddCells
from pipeline.init.request import Assumption
from pipeline.init.table import TABLE

# More values are names or codes, in which capitals may count.
MOST = 1000


def say(categories: Sequence[str], facts: Mapping[str, Facts], odd: OddCells, said: list[Assumption]) -> None:
    """Says so of each of the columns, with the SELECT that writes them alike."""
    for name in categories:
        if facts[name].type != "VARCHAR" or facts[name].different > MOST:
            continue
        cell = quoted(name)
        alike = f"SELECT list(DISTINCT {cell} ORDER BY {cell}) AS spelt FROM {TABLE} WHERE {cell} <> '' GROUP BY lower(trim({cell}))"
        query = f"SELECT count(*), sum(len(spelt)), min(spelt) FROM ({alike}) WHERE len(spelt) > 1"
        ((groups, values, some),) = odd.connection.execute(query).fetchall()
        if groups:
            shown = " and ".join(f"{value!r:.40}" for value in some[:2])
            why = (
                f"{values:,} of its values differ in capitals or spaces alone, like {shown}, and each is one of its own"
            )
            select = odd.select(name, f"lower(trim({cell}))")
            said.append(
                Assumption("categories", name, why, f"--data {select} makes them alike, as requests must be then")
            )
