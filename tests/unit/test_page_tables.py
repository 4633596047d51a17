"""What every page's template gives: messages with their commands as code, and a filter that hides what it does not find."""

from __future__ import annotations

import re

import pytest

from pipeline.html.templates import LAYOUTS, coded
from pipeline.pages import overview
from pipeline.pages.answers import unshown_page


def test_a_command_in_a_message_is_code_and_no_word_of_it_is_markup():
    """What stands between backticks is code; what somebody wrote between them, or without an end, is text."""
    assert coded("say `perennial <b>` & go") == "say <code>perennial &lt;b&gt;</code> &amp; go"
    assert coded("an `open end") == "an `open end"


def test_each_line_of_why_a_page_is_not_shown_stands_by_itself():
    """A file with two faults has two lines, on a page that a phone and a dark room can read."""
    page = unshown_page("params.yaml: <one>\nparams.yaml: two")
    assert re.findall(r'<p class="bad">(.*?)</p>', page) == ["params.yaml: &lt;one&gt;", "params.yaml: two"]
    assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page


def test_what_a_filter_hides_stays_hidden_where_rows_are_blocks():
    """A phone's rows are blocks, which would be seen in spite of `hidden`: the rule for it is stronger than any display."""
    assert re.search(r"\[hidden\] \{ display: none !important; \}", (LAYOUTS / "layout.html").read_text())


@pytest.mark.parametrize(("models", "filters"), [(6, 0), (7, 1)])
def test_the_overview_of_many_models_has_a_filter(models, filters):
    """A few cards are seen at one glance; of more a box finds those of a name or a word."""
    cards = [{"model": f"m{i}", "live": None, "description": "", "fault": "no `x`", "registry": (), "address": ""} for i in range(models)]  # fmt: skip
    unsaid = dict.fromkeys(("note", "burning", "frozen", "log", "label_delay_s", "scored", "limits_off", "problem", "drift"))  # fmt: skip
    facts = {"models": [unsaid | card for card in cards], "faults": (), "asked_at": "", "moves": (), "roi": None}
    page = overview.shown(facts)
    assert page.count("data-filter=") == filters
    assert page.count("no <code>x</code>") == models
