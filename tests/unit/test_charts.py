"""A chart is a figure in the page, drawn by Plotly's own script, which the plugin serves itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipeline.html.templates import rendered
from pipeline.pages import charts

ODD = "</script><script>alert(1)</script> & <b>bold</b> 'x' \u2028"
PAGE = """{% extends "layout.html" %}{% from "charts.html" import chart, scripts %}
{% block body %}{{ chart("c", figure, "Label of <it>", "Caption of <it>") }}{{ scripts("../", version) }}{% endblock %}"""


def drawn(tmp_path, figure) -> str:
    page = Path(charts.__file__).with_name("charts.html")
    (tmp_path / "page.html").write_text(PAGE)
    (tmp_path / "charts.html").write_text(page.read_text())
    return rendered(tmp_path / "page.html", {"figure": figure, "version": charts.version()})


def figures(page: str) -> list:
    return [json.loads(text) for text in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)]


def test_what_users_wrote_ends_no_script_and_is_no_markup_in_the_chart(tmp_path):
    """A name with `</script>` in it stays inside the figure's JSON, and Plotly shows its `<b>` as it was written."""
    page = drawn(tmp_path, charts.figure([{"name": ODD, "text": [charts.text(ODD)]}], {"title": ODD}))
    assert "alert(1)</script>" not in page and "<b>bold" not in page
    (found,) = figures(page)
    assert (found["data"][0]["name"], found["layout"]["title"]) == (ODD, ODD)
    assert (
        found["data"][0]["text"][0].startswith("&lt;/script&gt;") and "&amp; &lt;b&gt;" in found["data"][0]["text"][0]
    )
    assert 'aria-label="Label of &lt;it&gt;"' in page and "Caption of &lt;it&gt;" in page


def test_a_number_that_is_none_is_a_gap(tmp_path):
    """NaN and infinity, which JSON does not have, become null, at whatever depth."""
    page = drawn(tmp_path, charts.figure([{"y": (1.0, float("nan"), [float("inf")])}], {}))
    assert figures(page)[0]["data"] == [{"y": [1.0, None, [None]]}]


def test_the_script_is_the_one_of_the_package_and_nothing_is_fetched_from_outside(tmp_path):
    """The script's file has the version in its address, and the page names no other server."""
    with charts.script().open() as file:
        assert "plotly.js v" in file.read(200)
    page = drawn(tmp_path, charts.figure([], {}))
    assert f'src="../plotly.js?v={charts.version()}"' in page
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page)
