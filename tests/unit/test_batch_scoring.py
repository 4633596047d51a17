"""`predict` answers as the live slot does, whatever the file's form; cut short, it goes on where it was."""

import json
from datetime import timedelta

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.project import customers
from pipeline.errors import DataError, RegistryError
from pipeline.ledger.timeline import LiveVersion
from pipeline.runs import batch_scoring, block_columns
from pipeline.serving.runtime import Runtime
from pipeline.serving.schema import Column
from pipeline.settings.source import Csv
from tests.support.spellings import NUMBERS, UNREADABLE

FEATURES = ["spend", "calls", "plan"]


class OneVersion:
    """A registry whose version 3 has that package."""

    def __init__(self, package):
        self.package = package

    def runtime(self, model, version, digest):
        assert (version, digest) == ("3", "d")
        return Runtime.load(self.package)


LIVE = LiveVersion("3", "blue", None, "2024-01-01T00:00:00.000Z", "d")


@pytest.fixture
def champion(churn_package, monkeypatch, tmp_path):
    """Scores with the package of churn, in blocks of 100 rows."""
    monkeypatch.setattr(batch_scoring, "BLOCK_ROWS", 100)
    package = OneVersion(churn_package)
    return lambda given, output, form=None: batch_scoring.score(package, "churn", given, output, LIVE, form)


@pytest.fixture
def rows():
    return customers(days=12).drop(columns=["left", "decided_at"])


@pytest.fixture
def expected(churn_package, rows):
    return Runtime.load(churn_package).predict_frame(rows)


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("wanted", ["parquet", "csv"])
def test_every_row_is_scored_in_its_order(champion, rows, expected, tmp_path, form, wanted):
    """Each row of a CSV or Parquet file gets its prediction, in the file's order."""
    given, output = tmp_path / f"in.{form}", tmp_path / f"out.{wanted}"
    rows.to_csv(given, index=False) if form == "csv" else rows.to_parquet(given, row_group_size=130)
    result = champion(given, output)
    scored = pd.read_csv(output, float_precision="round_trip") if wanted == "csv" else pd.read_parquet(output)
    assert (result.rows, result.version, result.resumed_after) == (720, "3", 0)
    assert scored["customer"].tolist() == rows["customer"].tolist()
    assert np.array_equal(scored["prediction"], expected)
    assert list(tmp_path.glob(".out*")) == []


def test_no_more_is_held_than_a_part_of_the_file(champion, tmp_path, monkeypatch):
    """Scoring a hundred row groups takes no more memory than scoring five."""
    group = pa.table({"spend": np.random.default_rng(1).random(5000), "calls": [2.0] * 5000, "plan": ["plus"] * 5000})
    monkeypatch.setattr(batch_scoring, "BLOCK_ROWS", 5000)
    held, add = [], batch_scoring.Parts.add

    def look(self, *part):
        held.append(pa.total_allocated_bytes())
        add(self, *part)

    monkeypatch.setattr(batch_scoring.Parts, "add", look)
    most = {}
    for groups in (5, 100):
        given = tmp_path / f"{groups}.parquet"
        with pq.ParquetWriter(given, group.schema) as writer:
            for _ in range(groups):
                writer.write_table(group)
        held.clear()
        champion(given, tmp_path / "out.parquet")
        most[groups] = max(held)
    assert most[100] < 1.5 * most[5], most


def test_without_a_key_rows_are_numbered(champion, rows, tmp_path):
    """A file without the key's column gets row numbers."""
    rows[FEATURES].to_parquet(tmp_path / "in.parquet")
    champion(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["row"].tolist() == list(range(720))


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_cut_short_it_goes_on_where_it_was(champion, rows, expected, tmp_path, monkeypatch, caplog, form):
    """Scoring that was interrupted goes on after the last part, and no row is missing or repeated."""
    given, output = tmp_path / f"in.{form}", tmp_path / "out.parquet"
    rows.to_csv(given, index=False) if form == "csv" else rows.to_parquet(given, row_group_size=130)
    asked = []
    predict = Runtime.predict

    def dies(self, some):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(len(some))
        return predict(self, some)

    monkeypatch.setattr(Runtime, "predict", dies)
    with pytest.raises(KeyboardInterrupt):
        champion(given, output)
    assert not output.exists()
    monkeypatch.setattr(Runtime, "predict", predict)
    caplog.set_level("INFO", "pipeline")
    result = champion(given, output)
    assert result.resumed_after == sum(asked) > 0
    assert result.rows == 720
    assert f"churn: continues after row {sum(asked)}" in caplog.text
    assert np.array_equal(pd.read_parquet(output)["prediction"], expected)


def test_another_input_or_version_begins_anew(champion, rows, expected, tmp_path, monkeypatch):
    """Parts of another input or version are not used."""
    given, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    rows.to_parquet(given)
    monkeypatch.setattr(batch_scoring.Parts, "become_output", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        champion(given, output)
    monkeypatch.undo()
    parts = batch_scoring.Parts(output, ["another version"])
    assert parts.rows() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(columns="plan"), "has no column plan"),
        (
            lambda rows: rows.assign(plan=1),
            "row 0: column plan must be one of basic.* all of the first 100 rows refused",
        ),
        (lambda rows: rows.assign(spend="much"), "row 0: column spend must be a number; got .much"),
        (lambda rows: rows.head(0), "has no rows"),
    ],
)
def test_a_file_of_which_no_row_fits_is_one_line(champion, rows, tmp_path, change, message):
    """A file that lacks a column, or has one in another unit, is refused with its first row, and no output is written."""
    change(rows).to_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match=message):
        champion(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


WRONG = {
    7: ("spend", np.inf, "column spend must be a finite"),
    250: ("spend", None, "column spend must not be missing"),
    301: ("plan", "fr\u2028ee", "column plan must be one of basic"),
}


def refused_lines(output):
    with batch_scoring.refused_file(output).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize("wanted", ["parquet", "csv"])
def test_the_other_rows_are_scored_and_a_refused_one_is_kept_with_its_reason(
    champion, rows, expected, tmp_path, wanted
):
    """Rows in are rows out and rows refused; these are in a file beside the output, with number, reason and cells."""
    given = rows.copy()
    for row, (column, value, _) in WRONG.items():
        given.loc[row, column] = value
    given.to_parquet(tmp_path / "in.parquet")
    result = champion(tmp_path / "in.parquet", output := tmp_path / f"out.{wanted}")
    assert (result.rows, result.scored, result.refused) == (720, 717, 3)
    scored = pd.read_csv(output, float_precision="round_trip") if wanted == "csv" else pd.read_parquet(output)
    good = ~rows.index.isin(WRONG)
    assert scored["customer"].tolist() == rows["customer"][good].tolist()
    assert np.array_equal(scored["prediction"], expected[good])
    lines = refused_lines(output)
    assert [line["row"] for line in lines] == [*WRONG] and lines[2]["cells"]["plan"] == "fr\u2028ee"
    for line, (_, _, reason) in zip(lines, WRONG.values(), strict=True):
        assert line["reason"].startswith(reason)
    told = result.sentence(output)
    assert "717 rows with version 3" in told and "3 of 720 rows refused, the first: row 7: column spend must be" in told
    assert told.endswith("out_refused.jsonl") and "\n" not in told and list(tmp_path.glob(".out*")) == []
    rows.to_parquet(tmp_path / "in.parquet")
    assert champion(tmp_path / "in.parquet", output).refused == 0
    assert not batch_scoring.refused_file(output).exists(), "what was refused before is no longer"


def test_refused_rows_outlive_a_run_that_was_cut_short(champion, rows, tmp_path, monkeypatch):
    """What a part refused is told by the run that ends it, and rows without a key keep the number that they have in the file."""
    given = rows.drop(columns=["customer", "seen_at"]).assign(spend=rows["spend"].where(~rows.index.isin([3, 650])))
    given.to_parquet(tmp_path / "in.parquet")
    monkeypatch.setattr(batch_scoring.Parts, "become_output", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        champion(tmp_path / "in.parquet", output := tmp_path / "out.parquet")
    monkeypatch.undo()
    result = champion(tmp_path / "in.parquet", output)
    assert (result.resumed_after, result.rows, result.refused) == (720, 720, 2)
    assert [line["row"] for line in refused_lines(output)] == [3, 650]
    assert pd.read_parquet(output)["row"].tolist() == [row for row in range(720) if row not in (3, 650)]


def test_a_csv_is_read_as_the_source_reads_it(champion, churn_package, tmp_path):
    """Each spelling of a number is its number, or is refused with row and column; a text is the text."""
    good = [(text, value) for text, value in NUMBERS if value != UNREADABLE and (value is None or 0 <= value <= 1000)]
    texts = ['"' + text.replace('"', '""') + '"' for text, _ in good]
    (tmp_path / "in.csv").write_text(
        "\ufeffplan,calls,spend,more\r\n" + "".join(f"plus,{t},7,x\r\n" for t in texts), newline=""
    )
    champion(tmp_path / "in.csv", tmp_path / "out.parquet")
    rows = pd.DataFrame({"spend": 7.0, "calls": [value for _, value in good], "plan": "plus"}).astype({"calls": float})
    expected = Runtime.load(churn_package).predict_frame(rows)
    assert np.array_equal(pd.read_parquet(tmp_path / "out.parquet")["prediction"], expected)
    for text in [text for text, value in NUMBERS if value == UNREADABLE][::5]:
        quoted = text.replace('"', '""')
        (tmp_path / "in.csv").write_text(f'plan,calls,spend\nplus,1,7\nplus,"{quoted}",7\n')
        result = champion(tmp_path / "in.csv", tmp_path / "out.parquet")
        assert (result.scored, result.refused) == (1, 1)
        assert result.first_reason.startswith("row 1: column calls must be a number; got")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("plan;calls;spend\nplus;1;7\n", "set models.churn.source.csv.delimiter to ';'"),
        (
            'plan,calls,spend\nplus,1,"0,5"\n',
            "row 0: column spend must be a number; got '0,5'; .* set models.churn.source.csv.decimal",
        ),
        ("plan,calls,spend\nplus,1,7\nplus,1\n", "in.csv line 3: has 2 values, and the first line has 3 names"),
        ('plan,calls,spend\nplus,1,"7\nplus,1,8\n', "has a quote that does not end"),
        ("", "has no rows"),
        ("plan,calls,spend\n", "has no rows"),
    ],
)
def test_a_csv_of_another_form_is_one_line(champion, tmp_path, content, told):
    """A CSV that is written otherwise gives one line with the setting, or with the line of the file."""
    (tmp_path / "in.csv").write_text(content)
    with pytest.raises(DataError, match=told):
        champion(tmp_path / "in.csv", tmp_path / "out.parquet")


def test_a_csv_is_read_as_the_models_settings_say(champion, rows, expected, tmp_path):
    """Semicolons, decimal commas and latin-1 are scored by source.csv."""
    rows.to_csv(tmp_path / "in.csv", index=False, sep=";", decimal=",", encoding="latin-1")
    champion(tmp_path / "in.csv", tmp_path / "out.parquet", Csv(delimiter=";", decimal=",", encoding="latin-1"))
    assert np.array_equal(pd.read_parquet(tmp_path / "out.parquet")["prediction"], expected)


def test_rows_that_break_the_contract_are_scored_where_slots_flag_them(churn_package, rows, expected, tmp_path):
    """With `on_breach: flag` each row has its prediction, and one that breaks a rule has the rule beside it."""
    rows.loc[250, "spend"] = 5000.0
    rows.to_parquet(tmp_path / "in.parquet")
    registry, output = OneVersion(churn_package), tmp_path / "out.parquet"
    batch_scoring.score(registry, "churn", tmp_path / "in.parquet", output, LIVE, on_breach="flag")
    scored = pd.read_parquet(output)
    assert scored["breaches"].dropna().to_dict() == {250: '["spend must be at most 1000; got 5000.0"]'}
    others = scored.index != 250
    assert np.array_equal(scored["prediction"][others], expected[others])


def test_files_that_are_none_are_one_line(champion, tmp_path):
    """A file that cannot be read gives one line."""
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "text.csv").write_text("spend,calls,plan\nmuch,1,plus\n")
    for name, message in (
        ("torn.parquet", "cannot be read as Parquet"),
        ("text.csv", "text.csv row 0: column spend must be a number; got 'much'"),
        ("no.csv", "No such"),
    ):
        with pytest.raises(DataError, match=message) as refused:
            champion(tmp_path / name, tmp_path / "out.csv")
        assert "\n" not in str(refused.value)
    with pytest.raises(DataError, match="neither"):
        champion(tmp_path / "in.json", tmp_path / "out.csv")
    with pytest.raises(DataError, match="is the input too"):
        champion(tmp_path / "in.csv", tmp_path / "beside" / ".." / "in.csv")


def test_without_a_live_version_there_is_nothing_to_score_with(tmp_path):
    """Scoring while nothing is live is refused."""
    with pytest.raises(RegistryError, match="has no live version to score with"):
        batch_scoring.score(OneVersion(None), "churn", tmp_path / "a.csv", tmp_path / "b.csv", None)


def test_a_duration_is_the_number_that_the_source_reads(tmp_path):
    """What DuckDB takes out of the file for training is what `predict` takes out of it."""
    held = pa.array([timedelta(hours=5), None, timedelta(seconds=-1)], pa.duration("ms"))
    pq.write_table(pa.table({"wait": held}), tmp_path / "in.parquet")
    source = duckdb.sql(f"SELECT CAST(wait AS DOUBLE) FROM '{tmp_path / 'in.parquet'}'").fetchnumpy()
    cells = block_columns.cells_of(pq.read_table(tmp_path / "in.parquet")["wait"].combine_chunks(), Column("wait"))
    assert np.array_equal(cells, np.ma.filled(*source.values(), np.nan), equal_nan=True)
