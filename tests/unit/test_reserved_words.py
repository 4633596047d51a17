"""A column whose name is a word of SQL: Perennial quotes it, and a person's own query is told which word it is."""

import duckdb
import pytest

from pipeline.data.source import readable
from pipeline.errors import DataError
from tests.unit.test_init import TABLE, drafted, project

__all__ = ["project"]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("SELECT left FROM given", "left"),
        ("SELECT spend, order, plan FROM given", "order"),
        ("SELECT *\nFROM given\nWHERE group = 1", "group"),
        ("SELECT * FROM given ORDER BY End", "End"),
        ("SELECT max(at) AS newest FROM given", "at"),
        ("SELECT spend FROM given x y", None),
        ("SELECT wrong FROM range(3)", None),
    ],
)
def test_a_query_that_stumbles_over_a_word_says_which(query, word):
    """The advice is to quote it; another fault keeps its own advice."""
    with duckdb.connect() as connection, pytest.raises(DataError) as refused, readable("--data"):
        connection.execute(f"CREATE TEMP TABLE x AS SELECT * FROM ({query}\n)")
    said = f'; {word} is a word of SQL: where it is a column, write "{word}" with its double quotes'
    assert str(refused.value).endswith(said if word else "; run its query in DuckDB from the project's folder")


def test_columns_named_by_such_words_become_a_block(project):
    """Key, time, target, weight and features."""
    names = {"customer_id": "order", "seen_at": "at", "churned": "left", "plan": "group", "spend": "end"}
    table = TABLE.rename(columns=names).assign(limit=2)
    settings = drafted(project, table, target="left", key="order", time="at", weight="limit").draft.settings
    assert (settings["source"]["key"], settings["source"]["event_time"]) == ("order", "at")
    assert settings["training"] == {
        **{"task": "binary", "target": "left", "numeric": ["end"], "categorical": ["group", "zip"]},
        "weight": "limit",
    }
