"""Colours of the pages can be read: WCAG 2.2 asks 4.5:1 of text (1.4.3) and 3:1 of lines and bars (1.4.11), in light and in dark."""

from __future__ import annotations

import re

import pytest

from pipeline.html.templates import LAYOUTS
from pipeline.pages import charts
from pipeline.runs.backtest.page import COLOURS

# Chromium's own canvas of each scheme, which the pages do not paint over.
CANVAS = {"light": "#ffffff", "dark": "#121212"}
LAYOUT = (LAYOUTS / "layout.html").read_text()
CHARTS = (charts.Path(charts.__file__).with_name("charts.html")).read_text()


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def variables(page: str, scheme: str) -> dict[str, str]:
    """The page's colours by name: those of light, and what dark puts in their place."""
    light, dark = (dict(re.findall(r"(--\w+): (#\w+)", line)) for line in re.findall(r":root \{(.*?)\}", page))
    return light if scheme == "light" else light | dark


@pytest.mark.parametrize("scheme", CANVAS)
def test_words_can_be_read_on_the_page_and_on_its_cards(scheme):
    """Quiet, good and bad words are 4.5 times as light or dark as what they stand on, as is white on a slot's or a candidate's colour."""
    own = variables(LAYOUT, scheme)
    weak = {
        (name, ground): round(contrast(own[name], ground), 2)
        for name in ("--quiet", "--good", "--bad")
        for ground in (CANVAS[scheme], own["--card"])
        if contrast(own[name], ground) < 4.5
    }
    pages = [LAYOUT, *(page.read_text() for page in charts.Path(charts.__file__).parent.glob("*.html"))]
    rules = [rule for page in pages for rule in re.findall(r"\{([^{}]*)\}", page)]
    painted = {found[1] for rule in rules if re.search(r"color: #fff\b", rule) and (found := re.search(r"background: (#\w+)", rule))}  # fmt: skip
    painted |= set(re.findall(r"\.(?:slot|shares)[ .]\w+ \{ background: (#\w+)", LAYOUT))
    assert len(painted) >= 4
    assert weak == {} and [colour for colour in painted if contrast("#ffffff", colour) < 4.5] == []


@pytest.mark.parametrize("scheme", CANVAS)
def test_lines_and_bars_stand_out_from_the_page(scheme):
    """Each colour of a chart, of a bar and of a policy's line is 3 times as light or dark as the page."""
    own = variables(CHARTS, scheme)
    drawn = [*(own[f"--c{number}"] for number in range(1, 6)), variables(LAYOUT, scheme)["--bar"], *COLOURS]
    assert [colour for colour in drawn if contrast(colour, CANVAS[scheme]) < 3] == []
