"""Which word of a query DuckDB took for one of its own: a column called order or left is in double quotes."""

from __future__ import annotations

import re

import duckdb

# A line of the query as DuckDB shows it, and the mark below what it stumbled over.
SHOWN = re.compile(
    r'syntax error at or near "(?P<near>.+?)".*?^(?P<line>LINE \d+:.*)\n(?P<before> *)\^', re.DOTALL | re.MULTILINE
)
OURS = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category IN ('reserved', 'type_function')"


def advice(error: str) -> str | None:
    """What to do about a syntax error at such a word, or right behind one; None for another error."""
    if not (found := SHOWN.search(error)):
        return None
    words = re.findall(r"[A-Za-z_]\w*$", found["line"][: len(found["before"])].rstrip())
    with duckdb.connect() as connection:
        reserved = {word for (word,) in connection.execute(OURS).fetchall()}
    # In `SELECT left FROM` the fault is what stands before.
    near = [found["near"]]
    for word in [*words, *near] if found["near"].lower() in ("from", "as") else [*near, *words]:
        if word.lower() in reserved:
            return f'{word} is a word of SQL: where it is a column, write "{word}" with its double quotes'
    return None
