"""Files that `init` must not take for what they are not: lines above the column names, a line with a cell too many, a folder of two kinds."""

import gzip
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.init.addresses import refuse_several_kinds
from pipeline.init.table import TABLE, open_table
from tests.support import in_memory

LINES = "seen_at,spend,churned\n" + "".join(f"2024-01-{day:02d},{day}.5,{day % 2}\n" for day in range(1, 29))


def opened(folder: Path, data: str, target: str = "churned"):
    """(the origin, the number of rows) of the table that `init` makes of the data."""
    connection = in_memory.connection()
    origin = open_table(connection, folder, str(folder / data), "churn", target)
    return origin, connection.execute(f"SELECT count(*) FROM {TABLE}").fetchall()[0][0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# exported on Monday\n# by me\n" + LINES, 3),
        ("sep=;\n" + LINES.replace(",", ";"), 2),
        ("Report of 2024,,\n" + LINES, 2),
        ("\ufeff\n" + LINES, 2),
    ],
)
def test_lines_above_the_column_names_are_named(tmp_path, text, line):
    """The line that has the target's name is said, with the command that leaves out what is above it."""
    (tmp_path / "my table.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"has its column names in line {line}, .*tail -n .{line} 'my table.csv'"):
        opened(tmp_path, "my table.csv")


def test_a_name_that_goes_over_two_lines_is_no_line_above(tmp_path):
    """Headings of Excel are broken into lines, and the table starts with them all the same."""
    (tmp_path / "table.csv").write_text(LINES.replace("spend", '"spend\nin €"', 1))
    assert opened(tmp_path, "table.csv")[1] == 28


def test_a_column_that_is_not_there_is_no_line_above(tmp_path):
    """A label further down that is spelt as the target was typed is no line of names."""
    (tmp_path / "table.csv").write_text("seen_at,spend,churned\n2024-01-01,1,yes\n2024-01-02,2,no\n")
    assert opened(tmp_path, "table.csv", "yes")[1] == 2


def test_one_line_with_a_cell_too_many_changes_no_delimiter(tmp_path):
    """The line is refused by its number, and nobody is told to separate the values otherwise."""
    (tmp_path / "table.csv").write_text(LINES.replace("9.5,1\n", "9.5,1,x\n", 1))
    with pytest.raises(DataError, match=r"table.csv line 10: has 4 values, and the first line has 3 names"):
        opened(tmp_path, "table.csv")


def test_the_line_of_names_again_is_no_row(tmp_path):
    """Exports that were put together by `cat` have their rows, and no label called as the target."""
    (tmp_path / "table.csv").write_text(LINES + LINES + "seen_at,spend,other\n")
    assert opened(tmp_path, "table.csv")[1] == 57


def test_a_folder_with_two_kinds_of_files_is_refused(tmp_path):
    """The rows of one kind would be missing, and nobody would be told; what is hidden is no file of the folder, here as in a glob."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text(LINES)
    (tmp_path / "in" / "._b.parquet").write_bytes(b"of a Mac")
    (tmp_path / "in" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "in" / ".ipynb_checkpoints" / "a.parquet").write_bytes(b"of a notebook")
    assert opened(tmp_path, "in")[1] == 28
    (tmp_path / "in" / "b.csv.gz").write_bytes(gzip.compress(LINES.encode()))
    with pytest.raises(DataError, match="has files of several kinds: 1 .csv, 1 .csv.gz; give a glob"):
        opened(tmp_path, "in")
    assert opened(tmp_path, "in/*.csv*")[1] == 56
    with pytest.raises(DataError, match="several kinds: 2 .parquet, 1 .csv"):
        refuse_several_kinds("s3://x", {".parquet": 2, ".csv": 1, ".csv.gz": 0})
