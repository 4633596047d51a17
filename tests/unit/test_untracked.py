"""Untracked data is named by its largest file or folder, with the line for .gitignore."""

import pytest

from pipeline.workspaces.untracked import ignore_line, largest


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"raw.parquet": 90, "a.py": 1}, ("raw.parquet", 90)),
        ({"data/raw.parquet": 90, "data/x": 1, "a.py": 1}, ("data/raw.parquet", 90)),
        ({f"data/2024/{day}.parquet": 10 for day in range(9)} | {"a.py": 5}, ("data/2024/", 90)),
        ({"data/a/1": 30, "data/a/2": 30, "data/b/1": 30, "data/b/2": 30}, ("data/", 120)),
        ({"one": 10, "two": 10, "three": 11}, ("three", 11)),
    ],
)
def test_the_deepest_that_holds_most_is_named(sizes, named):
    """A single large file is named itself, and many small ones by the folder that holds them."""
    assert largest(sizes) == named


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("data/raw.parquet", "/data/raw.parquet"),
        ("data/2024/", "/data/2024/"),
        ("#1 [a]*.csv", "/\\#1\\ \\[a\\]\\*.csv"),
        ("!wichtig ü.csv", "/\\!wichtig\\ ü.csv"),
    ],
)
def test_the_line_ignores_exactly_that_path(path, line):
    """The line is anchored to the project's folder, and escapes what has a meaning in .gitignore."""
    assert ignore_line(path) == line
