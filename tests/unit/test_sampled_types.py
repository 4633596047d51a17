"""A query whose CSV or JSON types DuckDB would guess from a sample is refused with the line to add."""

import duckdb
import pytest

from pipeline.data.sampled_types import refuse_sampled_types
from pipeline.errors import DataError

WINDOW = "WHERE t >= $start AND t < $end"


@pytest.fixture(scope="module")
def duck():
    with duckdb.connect() as connection:
        yield connection


@pytest.mark.parametrize(
    ("query", "told"),
    [
        (f"SELECT * FROM read_csv('a/*.csv') {WINDOW}", "read_csv takes its types from the first 20,480 lines"),
        (f"SELECT * FROM read_csv_auto('a.csv', header = true) {WINDOW};", "add sample_size = -1 or all_varchar = true"),
        (f"FROM 'a/*.csv' {WINDOW}", "write read_csv('a/*.csv', sample_size = -1)"),
        (f"SELECT * FROM 'A.CSV.GZ' AS x JOIN k USING (id) {WINDOW}", "write read_csv('A.CSV.GZ'"),
        (f"WITH x AS (SELECT * FROM READ_CSV('a.csv', sample_size = 20000)) SELECT * FROM x {WINDOW}", "read_csv takes"),
        ("SELECT * FROM t WHERE id IN (SELECT id FROM read_csv('a.csv')) AND t >= $start AND t < $end", "read_csv takes"),
        (f"SELECT * FROM t {WINDOW} UNION ALL SELECT * FROM read_csv(['a.csv', 'b.csv'])", "read_csv takes"),
        (f"FROM read_csv('a.csv', types = {{'x': 'DOUBLE'}}) {WINDOW}", "states the types of some columns only"),
        (f"FROM read_csv('a.csv', all_varchar := false) {WINDOW}", "read_csv takes"),
        (f"FROM read_csv('a.csv', columns = {{'x': 'BIGINT', 'y': 'VARCHAR'}}) {WINDOW}", "state DOUBLE, TIMESTAMP or VARCHAR in place of BIGINT"),
        (f"FROM read_csv('a.csv', sample_size = -1, types = {{'x': DATE}}) {WINDOW}", "in place of DATE"),
        (f"FROM read_csv('a.csv', sample_size = -1, ignore_errors = true) {WINDOW}", "read_csv(ignore_errors) leaves lines out"),
        (f"FROM read_csv('a.csv', all_varchar = true, store_rejects = true) {WINDOW}", "remove store_rejects"),
        (f"FROM read_json('a.json') {WINDOW}", "read_json takes its types from the first 20,480 lines"),
        (f"FROM 'a.jsonl' {WINDOW}", "write read_json('a.jsonl', sample_size = -1)"),
        (f"SELECT * FROM data.csv {WINDOW}", "write read_csv('data.csv', sample_size = -1)"),
        (f'SELECT * FROM "a.tsv" {WINDOW}', "write read_csv('a.tsv', sample_size = -1)"),
        (f"FROM 'https://x/a.csv?key=1' {WINDOW}", "write read_csv('https://x/a.csv?key=1'"),
        (f"FROM query('SELECT * FROM ''a.csv''') {WINDOW}", "'a.csv' takes its types"),
        (f"FROM query_table(['a.csv', 'b.csv']) {WINDOW}", "write read_csv('a.csv'"),
        (f"PIVOT (FROM 'a.csv' {WINDOW}) ON x USING sum(y)", "'a.csv' takes its types"),
        (f"PIVOT (FROM read_csv('a.csv') {WINDOW}) ON x USING sum(y)", "read_csv takes its types"),
        (f"PIVOT (FROM read_csv('a.csv', sample_size=-1, ignore_errors=true) {WINDOW}) ON x USING sum(y)", "remove ignore_errors"),
    ],
)  # fmt: skip
def test_a_query_that_samples_is_refused(duck, query, told):
    """The refusal names the reader, what is wrong with it, and what to write."""
    with pytest.raises(DataError) as refused:
        refuse_sampled_types(duck, query, "churn")
    assert told in str(refused.value)
    assert str(refused.value).startswith("models.churn.source.query: ")


@pytest.mark.parametrize(
    "query",
    [
        f"SELECT * FROM read_parquet('a/*.parquet', union_by_name = true) {WINDOW}",
        f"SELECT * FROM read_csv('a.csv', sample_size = -1) {WINDOW}",
        f"SELECT * FROM read_csv('a.csv', sample_size := -1, ignore_errors = false) {WINDOW}",
        f"SELECT * FROM read_csv('a.csv', all_varchar = true) {WINDOW}",
        f"SELECT * FROM read_csv('a.csv', columns = {{'x': 'DOUBLE', 't': 'TIMESTAMP', 'm': 'DECIMAL(18,2)'}}) {WINDOW}",
        f"SELECT * FROM read_csv('a.csv', types = {{'x': 'DOUBLE'}}, sample_size = -1) {WINDOW}",
        f"SELECT * FROM read_json('a.json', sample_size = -1) {WINDOW}",
        f"SELECT * FROM 'a.parquet' {WINDOW}",
        f"SELECT 'a.csv' AS file, * FROM t {WINDOW} -- read_csv('a.csv')",
        f"PIVOT (FROM read_csv('a.csv', sample_size=-1) {WINDOW}) ON x USING sum(y)",
        f"SELECT * FROM postgres_scan('host=a', 'public', 'csv') {WINDOW}",
        f"SELECT FROM WHERE {WINDOW}",
    ],
)
def test_any_other_query_passes(duck, query):
    """A query that states its types, or reads no text, passes; so does one that DuckDB itself will refuse."""
    refuse_sampled_types(duck, query, "churn")


@pytest.mark.parametrize(
    "options", ["", ", ignore_errors = true", ", store_rejects = true", ", columns = {'a': 'BIGINT'}"]
)
def test_what_is_refused_would_lose_values_silently(duck, tmp_path, options):
    """Why: each of these turns a decimal behind 30,000 whole numbers into 0 without an error."""
    (tmp_path / "a.csv").write_text("a\n" + "7\n" * 30_000 + "0.37\n")
    assert duck.execute(f"SELECT a FROM read_csv('{tmp_path}/a.csv'{options}) OFFSET 30000").fetchall() == [(0,)]


@pytest.mark.parametrize(
    "options", ["sample_size = -1", "all_varchar = true", "columns = {'a': 'DOUBLE', 'b': 'VARCHAR'}"]
)
def test_what_passes_loses_nothing(duck, tmp_path, options):
    """With sample_size = -1, or stated types, a late decimal and a late leading zero are what they are."""
    (tmp_path / "a.csv").write_text("a,b\n" + "7,7\n" * 30_000 + "0.37,040\n")
    rows = f"SELECT a::DOUBLE, b::VARCHAR FROM read_csv('{tmp_path}/a.csv', {options}) OFFSET 30000"
    assert duck.execute(rows).fetchall() == [(0.37, "040")]
