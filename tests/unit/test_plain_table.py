"""The table of `status`: columns as wide as their cells, and no line wider than the terminal."""

from pipeline.cli import tables
from pipeline.cli.main import written
from pipeline.cli.plain_table import PlainTable, _cells


def test_columns_are_as_wide_as_their_longest_cell():
    """Names, a line, then the rows; a share stands to the right."""
    table = PlainTable("model", ">share")
    table.add_row("flight-delay", "5 %")
    table.add_row("日本", "100 %")
    assert table.text(80).splitlines() == [
        "model          share",
        "────────────────────",
        "flight-delay     5 %",
        "日本           100 %",
    ]


def test_what_is_too_wide_is_folded_and_nothing_is_lost():
    """The widest column goes on in the lines below, at spaces where it has some, and every letter of each cell is there."""
    address = "http://127.0.0.1:8000/a-model-with-a-long-name/invocations"
    table = PlainTable("model", "to undo", "address")
    table.add_row("m" * 40, "rollback m (to 3, warm)", address)
    lines = table.text(60).splitlines()
    assert max(map(_cells, lines)) <= 60
    told = "".join("".join(lines[2:]).split())
    assert told.count("m") >= 40 and sorted("".join(lines[2:]).replace(" ", "")) == sorted(
        ("m" * 40 + "rollback m (to 3, warm)" + address).replace(" ", "")
    )


def test_what_a_terminal_cannot_show_is_a_question_mark():
    """The frame of a table in Latin-1, and half a surrogate pair that a person typed, take no answer away."""
    assert written("──é", "latin-1") == "??é" and written("a\udcff", "utf-8") == "a?" and written("é", None) == "é"


def test_a_table_is_plain_text_where_colours_are_forced(monkeypatch):
    """With FORCE_COLOR, as in CI, a table has the same letters and no codes of a terminal."""
    from rich.table import Table

    table = Table("at", "what")
    table.add_row("now", "nothing")
    plain = tables.text(table)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert tables.text(table) == plain and "\x1b" not in plain


def test_no_text_moves_the_cursor_of_who_reads_it():
    """A reason or a description with a terminal's control codes is shown with question marks; ends of lines and tabs stay."""
    assert written("by root: \x1b[2Ja\rb\x9bc\x00", "utf-8") == "by root: ?[2Ja?b?c?"
    assert written("a\n\tb", "utf-8") == "a\n\tb"
