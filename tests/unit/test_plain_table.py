"""The table of `status`: columns as wide as their cells, and no line wider than the terminal."""

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
