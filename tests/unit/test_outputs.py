"""Where a command writes, and the times and places that are none."""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.cli.accounts import month
from pipeline.cli.arguments import reason, refuse_empty, time
from pipeline.cli.main import main, say
from pipeline.cli.outputs import refuse, write, writing
from pipeline.cli.parser import parser
from pipeline.data import s3
from pipeline.errors import DataError, LedgerError, RolloutError, SettingsError
from pipeline.ledger.store import Ledger
from pipeline.rollout.undeploy import undeploy
from pipeline.runs.scoring_interval import Interval


def test_a_command_never_writes_over_its_own_input(tmp_path):
    """An output that is the input, by its name, a link or another path, is refused, and the input stays as it was."""
    rows = tmp_path / "rows.csv"
    rows.write_text("a\n1\n")
    (tmp_path / "link.csv").symlink_to(rows)
    os.link(rows, tmp_path / "hard.csv")
    for output in (rows, tmp_path / "link.csv", tmp_path / "hard.csv", tmp_path / "x" / ".." / "rows.csv"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(DataError, match="would be lost"):
            write(output, "lost", rows)
    assert rows.read_text() == "a\n1\n"
    refuse(tmp_path / "other.csv", rows, tmp_path / "*.parquet")


def test_a_page_never_replaces_what_is_no_page(tmp_path):
    """A file with another ending, and a device, stay as they were; an earlier page is replaced, and a link to one leads to the new one."""
    for name in ("params.yaml", "customers.csv", "Makefile"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(DataError, match="is there, and does not end in .html or .htm; name another file"):
            write(tmp_path / name, "page")
        assert (tmp_path / name).read_text() == "mine"
    os.mkfifo(tmp_path / "pipe.html")
    for device in (Path("/dev/null"), tmp_path / "pipe.html"):
        with pytest.raises(DataError, match="is a device or a pipe"):
            write(device, "page")
    assert Path("/dev/null").is_char_device()
    (tmp_path / "link.html").symlink_to(tmp_path / "page.HTML")
    for text in ("old", "new"):
        write(tmp_path / "page.HTML", text)
        assert (tmp_path / "link.html").read_text() == text
        write(tmp_path / "link.html", text.upper())
        assert (tmp_path / "page.HTML").read_text() == text.upper()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    """A folder, and a place below a file, are refused by name; a missing folder is made."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a folder; name a file"):
        refuse(tmp_path)
    for place in (tmp_path / "file" / "x.html", tmp_path / "file" / "y" / "x.html"):
        with pytest.raises(DataError, match="cannot be written"):
            write(place, "page")
        with pytest.raises(DataError, match="cannot be written"), writing(place):
            place.parent.mkdir(parents=True)
    write(tmp_path / "new" / "x.html", "page")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.html"]


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:00", "9999-12-31", "0001-01-01"])
def test_a_time_that_utc_has_no_year_for_is_wrong_usage(text):
    """A time at the end of all years is refused like one that is no time, by commands and by an interval."""
    with pytest.raises(argparse.ArgumentTypeError, match="1900 to 9998"):
        time(text)
    with pytest.raises(SettingsError, match="is not START/END"):
        Interval.of(f"{text}/2024-03-01")


def test_times_of_commands():
    """A time without a zone is UTC, and one with a zone becomes UTC; half of an interval is named as what was written."""
    assert time("2026-11-30T12:00:00+14:00") == datetime(2026, 11, 29, 22, tzinfo=UTC)
    assert time("2026-11-30") == datetime(2026, 11, 30, tzinfo=UTC)
    for written in ("/", "2026-07-01", "2026-07-01/", "2026-07-01/x"):
        with pytest.raises(SettingsError, match=f"interval '{written}': is not START/END"):
            Interval.of(written)
    for text in ("0000-01", "9999-12", "0019-03", "2026-13"):
        with pytest.raises(argparse.ArgumentTypeError):
            month(text)
    assert month("2026-03") == "2026-03"


@pytest.mark.parametrize("hours", ["inf", "nan", "0", "-1"])
def test_hours_are_a_number_above_0(hours):
    """`slo --hours` of no number is refused before anything is read."""
    arguments = parser().parse_args(["slo", "--hours", hours])
    with pytest.raises(SettingsError, match="must be a number above 0"):
        arguments.call(arguments)


@pytest.mark.parametrize("name", ["", "../late", "a:b", "Late"])
def test_undeploy_of_what_is_no_name_touches_nothing(name):
    """A name that no model can have is not live: neither MLflow nor a folder is asked for it."""
    with pytest.raises(RolloutError, match="is not live; `perennial status`"):
        undeploy(None, name, 0.0)


def test_a_fault_of_s3_is_the_exceptions_own_line():
    """The query that DuckDB puts below a traceback, and the row of ^ under it, are not what failed."""
    traceback = (
        'Traceback (most recent call last):\n  File "x/botocore/auth.py", line 4\nNoCredentialsError: Unable to locate'
    )
    assert s3.what_failed(traceback) == "NoCredentialsError: Unable to locate"
    assert s3.what_failed(f"{traceback}\n\nLINE 1: SELECT 's3://x'\n    ^^^^") == "NoCredentialsError: Unable to locate"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["status", ""], "what follows status"),
        (["freeze", "", "--reason", "x"], "what follows freeze"),
        (["export", "late", "", "--to", "x"], "what follows late"),
        (["export", "late", "--to", ""], "--to"),
        (["export", "late", "--to="], "--to"),
        (["reconcile", "late", ""], "what follows late"),
    ],
)
def test_an_empty_word_is_wrong_usage(words, what, capsys):
    """What a shell makes of a variable that is not set is neither all models, nor the newest version, nor the current folder."""
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert f"{what} is empty; is a variable of the shell not set?" in capsys.readouterr().err


def test_a_reason_may_be_empty():
    """The stop button works without a reason."""
    refuse_empty(parser(), ["freeze", "late", "--reason", ""])
    refuse_empty(parser(), ["freeze", "late", "--reason="])


def test_a_reason_is_one_line():
    """What a person types over two lines is one in the ledger, in `status` and in a message."""
    assert reason(" Black\n Friday\t2026 ") == "Black Friday 2026"
    assert parser().parse_args(["freeze", "late", "--reason", "a\nb"]).reason == "a b"


def test_an_answer_that_cannot_be_written_is_one_line():
    """Standard output on a full disk is told in one line; a reader that has read enough is no fault, and nothing is tried again."""
    with open("/dev/full", "w") as full, pytest.raises(DataError, match="standard output: cannot be written"):
        say("an answer", full)
    read, write_end = os.pipe()
    os.close(read)
    with open(write_end, "w") as gone:
        say("an answer", gone)
        say("another", gone)


def test_an_address_that_is_none_is_not_shown():
    """A ledger's address that cannot be read is one line that names the variable, without what may be a password."""
    with pytest.raises(LedgerError, match="PERENNIAL_LEDGER_URL") as refused:
        Ledger("postgres//u:secret@h")
    assert "secret" not in str(refused.value)
