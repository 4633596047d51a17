"""What of a query changes with each reading is said: by `init`, and by each run's snapshot."""

import pytest

from pipeline.data.changing_sql import WHY, changing


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("SELECT *, date_diff('day', seen_at, now()) AS age FROM t", {"now()": "clock"}),
        ("SELECT * FROM t WHERE seen_at < CURRENT_DATE", {"current_date": "clock"}),
        ("SELECT *, age(seen_at) AS since FROM t", {"age()": "clock"}),
        ("WITH a AS (SELECT *, uuid() AS id FROM t) SELECT * FROM a ORDER BY random()", {"uuid()": "chance"}),
        ("ATTACH 'w.db' AS w; SELECT * FROM (SELECT * FROM w.t USING SAMPLE 10%)", {"USING SAMPLE": "sample"}),
        ("FROM t TABLESAMPLE RESERVOIR(20)", {"USING SAMPLE": "sample"}),
    ],
)
def test_a_clock_chance_and_a_sample_are_found(query, found):
    """In columns, conditions, orders and queries within, one of each kind, with what follows from it and what to do."""
    assert dict(changing(query)) == {what: WHY[kind] for what, kind in found.items()}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM t WHERE seen_at >= $start AND seen_at < $end",
        "SELECT age(signup, seen_at) AS since, t.now, random, '$start now() random()' AS text FROM t",
        "SELECT age, today, now, uuid FROM t WHERE age > 3 ORDER BY age",
        "SELECT * FROM t USING SAMPLE 10% (bernoulli, 3)",
        "SELECT * FROM t TABLESAMPLE RESERVOIR(20) REPEATABLE (3)",
        "PIVOT t ON plan",
        "SELEC * FROM t",
    ],
)
def test_what_is_the_same_each_time_is_not_spoken_of(query):
    """Nor what DuckDB cannot take apart: who runs it says what is wrong."""
    assert changing(query) == []
