"""The tests keep their own rules: a tier for each file, a docstring for each test, and files of a readable length."""

import ast
import functools
from types import SimpleNamespace

import pytest

from tests.conftest import TESTS, TIERS, tier_of
from tests.support.side_by_side import FIRST, GROUPS, LONG, LONG_UNIT, longest_first

FILES = sorted(TESTS.rglob("*.py"))
MOST_LINES = 400


@functools.cache
def specifications(file):
    """The name of each test function of a file, with its docstring."""
    functions = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
    return {function.name: ast.get_docstring(function) for function in functions if function.name.startswith("test_")}


def test_each_test_is_in_a_tier():
    """Each file with tests is in a tier's folder, and a file elsewhere is refused."""
    assert {tier_of(file) for file in FILES if specifications(file)} == set(TIERS)
    with pytest.raises(pytest.UsageError, match="is in no tier's folder; move it to one of unit, component"):
        tier_of(TESTS / "test_elsewhere.py")


def test_each_test_says_its_behaviour_in_one_line():
    """Each test function has a docstring of one line that ends like a sentence."""
    missing = [
        f"{file.relative_to(TESTS)}::{name}"
        for file in FILES
        for name, docstring in specifications(file).items()
        if docstring is None or "\n" in docstring or not docstring.endswith((".", "?", "!"))
    ]
    assert missing == []


def test_no_test_file_is_too_long():
    """Each file of the tests has fewer than 400 lines."""
    assert {file.name: lines for file in FILES if (lines := len(file.read_text().splitlines())) >= MOST_LINES} == {}


def test_each_group_of_files_exists():
    """Each file whose tests go to one worker exists."""
    assert [file for file in (*GROUPS, FIRST, *LONG, *LONG_UNIT) if not (TESTS.parent / file).is_file()] == []


def test_the_longest_come_first_and_in_their_order():
    """Stories begin, groups of files come next, and short tests of the engines are left for the end."""
    given = (
        "engine/test_replay.py",
        "engine/test_killed.py",
        "component/test_bucket.py",
        "component/test_dags.py",
        "story/test_server.py",
    )
    items = [SimpleNamespace(nodeid=f"tests/{name}::{number}") for name in given for number in "21"]
    longest_first(items)
    assert [item.nodeid for item in items] == [f"tests/{name}::{number}" for name in reversed(given) for number in "21"]
