"""What was read of params.yaml is remembered, gives the very same values, and is never out of date."""

from datetime import UTC, date, datetime

import pytest

from pipeline.errors import SettingsError
from pipeline.settings import read_before, yaml_file

GIVEN = """
models:
  churn:
    as_of: 2024-03-01T00:00:00Z
    day: 2024-03-01
    low: -1e-5
    no: NO
    list: [1, 1.0, true, null]
    "é": '"x"'
"""


@pytest.fixture
def reads(tmp_path, monkeypatch):
    """Reads a text as params.yaml with memory; `reads.count` says how often YAML was read."""
    read, file = yaml_file.mapping, tmp_path / "params.yaml"

    def values(text):
        file.write_text(text)
        return read_before.mapping(file, tmp_path / "memory")

    def counted(path):
        values.count += 1
        return read(path)

    values.count, values.memory = 0, tmp_path / "memory"
    monkeypatch.setattr(yaml_file, "mapping", counted)
    return values


def test_the_second_read_gives_the_same_values_without_yaml(reads):
    """Times, dates, numbers, truths and texts come back with their types."""
    first, second = reads(GIVEN), reads(GIVEN)
    assert (first, reads.count) == (second, 1)
    assert list(map(type, first["models"]["churn"]["list"])) == list(map(type, second["models"]["churn"]["list"]))
    assert second["models"]["churn"]["as_of"] == datetime(2024, 3, 1, tzinfo=UTC)
    assert second["models"]["churn"]["day"] == date(2024, 3, 1)


def test_a_changed_file_is_read_and_the_one_before_it_is_still_known(reads):
    """Each content has values of its own: one edit, and back."""
    reads(GIVEN)
    assert reads(GIVEN.replace("NO", "yes"))["models"]["churn"]["no"] == "yes"
    assert reads(GIVEN)["models"]["churn"]["no"] == "NO" and reads.count == 2


@pytest.mark.parametrize("text", ["a: {1: 2}", "a: {true: 2}", "a: .nan", "a: !!binary aGk=", "a: !!set {b, c}"])
def test_what_json_would_change_is_read_each_time(reads, text):
    """Keys that are no text, and values that JSON does not have, are never remembered as something else."""
    assert str(reads(text)) == str(reads(text)) and reads.count == 2


@pytest.mark.parametrize("content", ["", "{}", "x\n{}", '"half'])
def test_a_damaged_memory_is_as_none(reads, content):
    """A file of the memory that was cut off or written by another hand is not believed."""
    reads(GIVEN)
    (kept,) = reads.memory.iterdir()
    kept.write_text(content)
    assert "churn" in reads(GIVEN)["models"] and reads.count == 2
    assert reads(GIVEN) and reads.count == 2


def test_other_code_reads_anew(reads, monkeypatch, tmp_path):
    """After an upgrade of the code that reads YAML nothing of before is taken."""
    reads(GIVEN)
    (tmp_path / "yaml_file.py").write_text("# another rule")
    monkeypatch.setattr(yaml_file, "__file__", str(tmp_path / "yaml_file.py"))
    assert reads(GIVEN) and reads.count == 2


def test_the_newest_reads_stay(reads):
    """The memory does not grow with the edits, and only its owner may read it."""
    for number in range(read_before.KEPT + 3):
        reads(f"a: {number}")
    kept = list(reads.memory.iterdir())
    assert len(kept) == read_before.KEPT and all(file.stat().st_mode & 0o077 == 0 for file in kept)


def test_a_file_that_cannot_be_read_is_its_fault_each_time(reads):
    """What is no YAML is one line, remembered or not; a folder that cannot be written costs the memory alone."""
    for _ in range(2):
        with pytest.raises(SettingsError, match="is not YAML"):
            reads("a: [")
    reads.memory.write_text("a file in its place") if not reads.memory.exists() else None
    assert reads(GIVEN)["models"]
