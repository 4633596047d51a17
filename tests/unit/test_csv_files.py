"""CSV files as a source: every cell is what it says, and what cannot be read is counted, or refused in one line."""

import gzip
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data import file_source, sql
from pipeline.data import snapshot as snapshots
from pipeline.errors import DataError
from tests.support import in_memory
from tests.support.csv_source import HEADER, lines, load, model, write

WHOLE = ["spend", "calls", "left"]


def test_a_late_decimal_and_a_leading_zero_stay_what_they_are(tmp_path):
    """DuckDB 25824: a decimal, a code and a time behind 30,000 whole numbers are read as they are, or are unread."""
    late = ["0.37", "1_000", "040"]
    content = lines(*["7"] * 30_000, *late) + "040,2024-02-15T12:30:00Z,1,1,0123,1,2024-02-16 08:00\n"
    write(tmp_path, content)
    rows, _ = load(tmp_path)
    found = rows.set_index("customer")
    assert found.loc["c30000", "spend"] == 0.37
    assert (found.loc["c30001", "unread"], found.loc["c30002", "spend"]) == ('{"spend": "1_000"}', 40)
    assert found.loc["040", "plan"] == "0123"
    assert f"{found.loc['040', 'seen_at']:%d %H:%M}" == "15 12:30"
    assert rows.unread.notna().sum() == 1


def test_texts_stay_as_they_are(tmp_path):
    """A category keeps its leading zeros, spaces and case, NA is a country, and only an empty cell is missing."""
    row = "c{},2024-02-10,1,1,{},0,2024-02-12"
    cells = ["040", "NA", "null", "x ", '"a,b"', '"a ""b"""', '"l1\nl2"', "", '""', "1e3", "2.0"]
    write(tmp_path, "\n".join([HEADER, *(row.format(f"{i:02}", cell) for i, cell in enumerate(cells))]))
    plans = load(tmp_path)[0].plan
    assert list(plans.astype(object).where(plans.notna(), None)) == [
        *("040", "NA", "null", "x ", "a,b", 'a "b"', "l1\nl2", None, None, "1e3", "2.0")
    ]


def test_missing_and_unread_numbers_are_told_apart(tmp_path):
    """The spellings of pandas are missing; a text that is no number is unread, beside its row."""
    write(tmp_path, lines("1", "", "NA", "nan", "much", "1,5".join('""'), " 2 ", "5", "6"))
    rows, _ = load(tmp_path)
    assert list(rows.spend.isna()) == [False, True, True, True, True, True, False, False, False]
    assert list(rows.unread.dropna()) == ['{"spend": "much"}', '{"spend": "1,5"}']


def test_a_column_of_truth_values_is_one(tmp_path):
    """Where most cells are words like True, the column is boolean, and one cell that is neither is unread."""
    row = "c{},2024-02-10,{},1,plus,{},2024-02-12\n"
    cells = [("True", "yes"), ("false", "no"), ("1", "NO"), ("", "Yes"), ("much", "no")]
    write(tmp_path, HEADER + "\n" + "".join(row.format(i, *cell) for i, cell in enumerate(cells)))
    rows, _ = load(tmp_path)
    assert [None if value is None else bool(value) for value in rows.left] == [True, False, False, True, False]
    assert list(rows.spend.astype(object).where(rows.spend.notna(), None)) == [True, False, True, None, None]
    assert list(rows.unread.dropna()) == ['{"spend": "much"}']
    write(tmp_path, lines("1", "2", "true"))
    assert list(load(tmp_path)[0].unread.dropna()) == ['{"spend": "true"}']


def test_two_unread_cells_of_a_row_are_both_kept(tmp_path):
    """A row has all its unread cells, and a label whose time is unread is not known."""
    write(tmp_path, lines("1", "2", "3") + "c9,2024-02-10,x,y,plus,1,soon\n")
    row = load(tmp_path)[0].iloc[-1]
    assert row.unread == '{"spend": "x", "calls": "y", "decided_at": "soon"}'
    assert row[["left", "decided_at"]].isna().all()


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "a byte order mark": b"\xef\xbb\xbf" + lines("1", "2.5").encode(),
        "a byte order mark and quotes": b'\xef\xbb\xbf"customer"' + lines("1", "2.5").encode()[8:],
        "line ends of Windows": lines("1", "2.5").replace("\n", "\r\n").encode(),
        "no line end at the end": lines("1", "2.5").strip().encode(),
        "empty lines": lines("1", "2.5").replace("\nc1", "\n\nc1").encode() + b"\n\n",
        "quoted values": lines('"1"', '"2.5"').encode(),
        "a quoted header": lines("1", "2.5", header=",".join(f'"{n}"' for n in HEADER.split(","))).encode(),
        "other columns": lines("1", "2.5").replace("\n", ",x\n").replace(",x\n", ",more\n", 1).encode(),
        "a column without a name": b",".join((b"", lines("1", "2.5").replace("\n", "\n0,").encode()))[:-2],
    }.items(),
)
def test_a_file_may_have(tmp_path, name, content):
    """These files all have the same rows."""
    write(tmp_path, content)
    rows, times = load(tmp_path)
    assert (list(rows.spend), list(rows.customer), rows.unread.notna().sum(), times.rows) == (
        [1, 2.5],
        ["c0", "c1"],
        0,
        0,
    )


def test_a_compressed_file_is_read(tmp_path):
    """A file compressed with gzip is read as one that is not."""
    write(tmp_path, gzip.compress(lines("1", "2.5").encode()), "one.csv.gz")
    rows, _ = load(tmp_path, model(files=["data/*.csv.gz"]))
    assert list(rows.spend) == [1, 2.5]


@pytest.mark.parametrize(
    ("csv", "content"),
    [
        ({"delimiter": ";"}, lines("0.37").replace(",", ";").encode()),
        ({"delimiter": "\t"}, lines("0.37").replace(",", "\t").encode()),
        ({"delimiter": ";", "decimal": ","}, lines("0.37").replace(",", ";").replace("0.37", "0,37").encode()),
        ({"encoding": "latin-1"}, lines("0.37").replace("plus", "größe").encode("latin-1")),
        ({}, lines("0.37").replace("plus", "größe").encode()),
    ],
)
def test_the_form_of_the_files_can_be_stated(tmp_path, csv, content):
    """Delimiter, decimal and encoding are settings."""
    write(tmp_path, content)
    (row,) = load(tmp_path, model(csv=csv))[0].itertuples()
    assert (row.spend, row.plan) == (0.37, "größe" if b"gr" in content.replace(b"\0", b"") else "plus")


def test_utf_8_that_is_called_latin_1_is_refused(tmp_path):
    """Read as latin-1 each umlaut of a utf-8 file would be two other letters, and no category that a client sends."""
    write(tmp_path, lines("0.37").replace("plus", "größe").encode())
    with pytest.raises(DataError, match="one.csv: is utf-8; set models.churn.source.csv.encoding to utf-8, or save it"):
        load(tmp_path, model(csv={"encoding": "latin-1"}))
    write(tmp_path, lines("0.37"))
    assert len(load(tmp_path, model(csv={"encoding": "latin-1"}))[0]) == 1


def test_what_excel_on_windows_writes_is_refused_with_the_way_on(tmp_path):
    """cp1252 has a euro sign where latin-1 has none."""
    write(tmp_path, lines("0.37").replace("plus", "plus €").encode("cp1252"))
    with pytest.raises(DataError, match="neither utf-8 nor latin-1.*iconv -f cp1252 -t utf-8"):
        load(tmp_path, model(csv={"encoding": "latin-1"}))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lines("1").replace(",", ";").encode(), "set models.churn.source.csv.delimiter to ';'"),
        (lines("1").replace(",", "\t").encode(), "set models.churn.source.csv.delimiter to '\\t'"),
        (lines('"0,37"', '"1,5"', "2").encode(), "column spend is no number in 2 of 3 rows, e.g. '0,37', '1,5'; set models.churn.source.csv.decimal to ','"),
        (lines('"1,234"', '"12,345"').encode(), "e.g. '1,234', '12,345'; its numbers seem to have marks between the thousands: leave them out"),
        (lines("1").replace("plus", "größe").encode("latin-1"), "one.csv line 2: is not utf-8; set models.churn.source.csv.encoding"),
        (lines("1", header=HEADER.replace("plan", "größe")).encode("latin-1"), "one.csv line 1: is not utf-8; set models.churn.source.csv.encoding"),
        (lines("1").encode("utf-16"), "one.csv: is utf-16; `iconv -f utf-16 -t utf-8` turns it into utf-8"),
        (b"\xfe\xff" + lines("1").encode("utf-16-be"), "one.csv: is utf-16; `iconv"),
        (lines("1", "2,3", "4").encode(), "one.csv line 3: has 8 values, and the first line has 7 names"),
        (b"customer,seen_at,spend,calls,plan,left,decided_at\n\"a\nb\",x\n", "one.csv line 2: has 2 values, and the first line has 7 names"),
        (lines("1", '"2', "4").encode(), "has a quote that does not end"),
        (lines("1", '"2"x', "4").encode(), "line 3: has a quote that does not end where the value does"),
        (lines("1", "2").replace("\nc1", "\r\nc1").encode(), "one.csv: has line ends of two kinds: line 2 ends in another way than the first one"),
        ("\n".join(lines("1", "2").splitlines()[1:]).encode(), "has no column customer in its first line, 'c0,2024-02-10"),
        (lines("1", header=HEADER.replace("spend", "spent")).encode(), "has no column spend in its first line"),
        (lines("1", header=HEADER.replace("calls", "spend")).encode(), "has the column spend twice"),
        (lines("1", header=HEADER + ",more").encode(), "has 7 values, and the first line has 8 names"),
        (b"", "one.csv is empty"),
        (b"\n\n", "the first line must hold the column names"),
        (lines("plus", "basic").encode(), "column spend is no number in 2 of 2 rows, e.g. 'basic', 'plus'; correct what writes the files, or list it in models.churn.training.categorical"),
        (lines("1").replace("2024-02-10 10:00:00", "10.02.2024").encode(), "column seen_at is no time in 1 of 1 rows, e.g. '10.02.2024'; times must be like 2024-02-01"),
        (lines("1").replace("2024-02-10 10:00:00", "1707559200").encode(), "column seen_at is no time in 1 of 1 rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(tmp_path, content, told):
    """A file in another form gives one line, with the file's line or the setting."""
    write(tmp_path, content)
    with pytest.raises(DataError) as refused:
        load(tmp_path)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("files", "content", "told"),
    [
        (
            ["data/*.csv.gz"],
            gzip.compress(lines("1" * 500).encode(), mtime=0)[:-12],
            "cannot be read|check that the file is whole",
        ),
        (["data/*.csv.gz"], lines("1").encode(), "cannot be read|check that"),
        (["none/*.csv"], b"", "no file matches none/\\*.csv; check models.churn.source.files"),
        (["data"[:2] + "*.csv"], b"", "no file matches"),
    ],
)
def test_files_that_are_not_there_or_not_whole_are_one_line(tmp_path, files, content, told):
    """A truncated or missing file gives one line."""
    write(tmp_path, content, "one.csv.gz" if files[0].endswith("gz") else "one.csv")
    with pytest.raises(DataError, match=told) as refused:
        load(tmp_path, model(files=files))
    assert "\n" not in str(refused.value)


def test_files_of_a_glob_may_differ_in_order_and_in_columns(tmp_path):
    """Columns go by name in each file; a column that a file lacks has no values there; an empty file has no rows."""
    write(tmp_path, lines("1"), "a.csv")
    write(tmp_path, "plan,customer,decided_at,left,seen_at,spend\nbasic,d0,2024-02-12,1,2024-02-11,0.5\n", "b.csv")
    write(tmp_path, "", "c.csv")
    write(tmp_path, HEADER + "\n", "d.csv")
    rows, _ = load(tmp_path)
    assert (list(rows.customer), list(rows.spend), list(rows.plan)) == (["c0", "d0"], [1, 0.5], ["plus", "basic"])
    assert (list(rows.calls.isna()), rows.unread.notna().sum()) == ([False, True], 0)


def test_a_file_without_key_or_time_is_refused_by_name(tmp_path):
    """Each file must have the key and the event time."""
    write(tmp_path, lines("1"), "a.csv")
    write(tmp_path, lines("1", header=HEADER.replace("customer", "client")), "b.csv")
    with pytest.raises(DataError, match="b.csv: has no column customer in its first line"):
        load(tmp_path)


def test_a_line_number_counts_the_lines_in_quotes(tmp_path):
    """The line that is named is the file's own, whatever quoted line ends are before it."""
    write(tmp_path, lines("1", "2", "3,4").replace("plus", '"pl\nus"', 2))
    with pytest.raises(DataError, match="one.csv line 6: has 8 values"):
        load(tmp_path)


def test_odd_names_of_files_are_no_patterns(tmp_path):
    """Brackets, quotes and commas in the name of a file or a folder mean themselves."""
    root = tmp_path / "it's [a] dir"
    root.mkdir()
    write(root, lines("1"), "a[1], 'b'*.csv")
    write(root, lines("2").replace("c0", "c1"), "a1.csv")
    assert list(load(root)[0].spend) == [1, 2]


def test_a_row_without_a_readable_time_counts_with_its_file(tmp_path):
    """A row whose time is no time counts in the window of its file: another month's file changes nothing."""
    bad = "x{},31.02.2024,1,1,plus,0,2024-02-20\n"
    write(tmp_path, lines("1", "2") + bad.format(1) + "x2,,1,1,plus,0,2024-02-20\n", "feb.csv")
    write(tmp_path, lines("1").replace("2024-02-10", "2024-03-10") + bad.format(3), "mar.csv")
    rows, times = load(tmp_path)
    assert (times.rows, times.examples, len(rows)) == (1, ["31.02.2024"], 2)
    write(tmp_path, HEADER + "\n" + bad.format(4), "all_bad.csv")
    assert load(tmp_path)[1].rows == 2, "no window would have them, so that each has"


def test_parquet_files_need_no_query(tmp_path):
    """Parquet files are read the same way, with the types that they have."""
    import pandas as pd

    write(tmp_path, "")
    frame = pd.DataFrame(
        {
            **{"customer": ["a", "b"], "seen_at": pd.to_datetime(["2024-02-10", "2024-03-10"], utc=True)},
            **{"spend": [1.5, 2.5], "calls": [1, 2], "plan": ["plus", "basic"], "left": [True, False]},
            "decided_at": pd.to_datetime(["2024-02-12", "2024-03-12"], utc=True),
        }
    )
    frame.to_parquet(tmp_path / "data" / "a.parquet")
    rows, _ = load(tmp_path, model(files=["data/*.parquet"]))
    assert (list(rows.customer), list(rows.spend), list(rows.left)) == (["a"], [1.5], [True])
    frame.drop(columns="plan").to_parquet(tmp_path / "data" / "a.parquet")
    with pytest.raises(DataError, match="has no column plan; add it; the columns are customer"):
        load(tmp_path, model(files=["data/*.parquet"]))


def test_a_file_counts_and_not_the_name_of_its_folder(tmp_path):
    """A column of both is what the files hold, as `predict` reads them; one that folders alone have is theirs; some of each is refused."""
    file = tmp_path / "region=a" / "day=2024-01-02" / "rows.parquet"
    file.parent.mkdir(parents=True)
    held = {"x": [1, 2], "region": ["b", "c"], "Day": ["2024-01-02T10:00", "2024-01-02T11:00"]}
    connection = in_memory.connection()

    def read(**columns):
        pq.write_table(pa.table(columns), file)
        query = f"SELECT x, region, day FROM {file_source.parquet(connection, [file], 'churn source')}"
        return connection.sql(query).fetchall()

    assert read(**held) == [*zip(*held.values(), strict=True)]
    assert read(x=[1]) == [(1, "a", date(2024, 1, 2))]
    with pytest.raises(DataError, match="has the column region in its files and .*, which have day too; leave region"):
        read(x=[1], region=["b"])


def test_texts_of_numbers_that_a_double_merges_are_refused_by_name(tmp_path):
    """No run learns from accounts that differ in their last digits alone as if they were one; what reads rows for other ends does as before."""
    write(tmp_path, lines(*(str(10**18 + i) for i in range(30))))
    assert set(load(tmp_path)[0].spend) == {1e18}
    of = model()
    start = of.as_of - timedelta(days=of.source.window_days)
    with pytest.raises(
        DataError, match="column spend holds texts, and a double cannot tell its numbers from each other"
    ):
        snapshots.known_rows("churn", of, tmp_path, start, of.as_of, of.as_of)


def test_a_column_may_be_called_as_a_parameter():
    """DuckDB gets the values of the parameters that a query has, and not of a name that looks like one."""
    assert sql.parameters("SELECT \"a $end\", '$end' FROM t WHERE x < $start", {"start": 1, "end": 2}) == {"start": 1}
