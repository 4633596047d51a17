"""`init` measures into how many groups the words of texts are sorted, and says it."""

import numpy as np
import pytest

from pipeline.init import text_groups
from tests.unit.test_init import ROWS, TABLE, drafted, project

__all__ = ["project"]
RANDOM = np.random.default_rng(11)
WORDS = np.array([f"word{n:x}s" for n in range(900)], object)


def noted(leaving):
    """The table with a note of five words each: of `leaving` customers a third of the words are among 60 of the 900."""
    notes = [
        " ".join(RANDOM.choice(WORDS[:60] if one and RANDOM.random() < 0.35 else WORDS[60:]) for _ in range(5))
        for one in leaving
    ]
    return TABLE.assign(note=notes)


def said(result):
    return next(str(each) for each in result.draft.assumptions if each.what == "words")


def test_more_groups_are_taken_where_words_tell_more_apart(project):
    """Where 60 words of 900 tell who leaves, each shares its group with others among 64."""
    result = drafted(project, noted(TABLE.churned), leave_out=("spend",))
    assert result.draft.settings["training"]["words"] == 512
    assert "words: 512 groups, of what is said in note; 0 is its length alone; roc_auc 0." in said(result)
    assert "newest rows before the held-out days" in said(result)


def test_where_words_tell_nothing_there_are_few_groups(project):
    """Of words without meaning 64 groups stay, and both scores are said."""
    result = drafted(project, noted(RANDOM.integers(0, 2, ROWS)))
    assert result.draft.settings["training"]["words"] == 64
    assert " with 64 and 0." in said(result)


def test_a_table_that_more_groups_would_fill_the_memory_of_gets_few(project, monkeypatch):
    """No fit is tried, and it is said."""
    monkeypatch.setattr(text_groups, "MOST_BYTES", ROWS * 512 * 8 - 1)
    monkeypatch.setattr(text_groups.measured, "compared", lambda *_: pytest.fail("was tried"))
    result = drafted(project, noted(TABLE.churned))
    assert result.draft.settings["training"]["words"] == 64
    assert said(result).endswith("512 are not tried with 2,000 rows")
