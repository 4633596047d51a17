"""What all gates said of one run, on a page that is read in a minute: Markdown for MLflow, HTML for the page in Airflow.

What stops the version comes first, then what only warns, what has no verdict, and what passed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.gates import calibration, reliability_picture
from pipeline.gates.base import Table, Verdict
from pipeline.html.templates import rendered

MARKDOWN, HTML = "gates.md", "gates.html"
ORDER = ("FAILED", "warned", "no verdict", "passed")
# How a word is shown: the classes of layout.html.
LOOKS = {"FAILED": "bad", "warned": "bad", "no verdict": "quiet", "passed": "good"}


def pictures(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """The SVG of each verdict that has one, by the gate's name."""
    return {
        verdict.gate: reliability_picture.picture(verdict.table)
        for verdict in verdicts
        if verdict.gate == "calibration" and verdict.table and verdict.table.columns == calibration.COLUMNS
    }


def markdown(model: str, run: str, verdicts: Sequence[Verdict], files: Sequence[str] = ()) -> str:
    """The report as Markdown. `files` are the pictures beside it, which it links."""
    lines = [f"# Gates of {model}", "", f"Run `{run}`: {sentence(verdicts)}.", ""]
    lines += _rows(("gate", "verdict", "observed", "limit", "reason"), [_cells(each) for each in ordered(verdicts)])
    if files:
        lines += ["", "Pictures: " + ", ".join(f"[{file}]({file})" for file in files)]
    for verdict in ordered(verdicts):
        if verdict.table is not None and verdict.table.rows:
            lines += ["", f"## {verdict.gate}", "", *_rows(verdict.table.columns, _table_cells(verdict.table))]
    return "\n".join(lines) + "\n"


def html(model: str, run: str, verdicts: Sequence[Verdict], moves: str = "", file: str = "", root: str = "") -> str:
    """The report as a page. `moves` is the SVG of what moves the version's predictions; '' where nobody has it. `file` is the address of
    its table as a file, without .csv or .json, and `root` that of the pages; '' where there is none."""
    drawn = pictures(verdicts)
    shown = [
        {
            "cells": _cells(verdict),
            "look": LOOKS[verdict.word],
            "columns": verdict.table.columns if verdict.table else (),
            "rows": _table_cells(verdict.table) if verdict.table else [],
            "picture": drawn.get(verdict.gate, ""),
        }
        for verdict in ordered(verdicts)
    ]
    facts: dict[str, Any] = {
        "root": root,
        "model": model,
        "run": run,
        "sentence": sentence(verdicts),
        "verdicts": shown,
        "moves": moves,
        "file": file,
    }
    return rendered(Path(__file__).with_name("report.html"), facts)


def ordered(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """By what they say, each kind in the order of the gates."""
    return sorted(verdicts, key=lambda verdict: ORDER.index(verdict.word))


def sentence(verdicts: Sequence[Verdict]) -> str:
    """How many gates said what, with the names of those that did not pass."""
    told = []
    for word in ORDER[:-1]:
        if names := [verdict.gate for verdict in verdicts if verdict.word == word]:
            told.append(f"{word}: {', '.join(names)}")
    passed = sum(verdict.word == "passed" for verdict in verdicts)
    return "; ".join([*told, f"{passed} of {len(verdicts)} passed"])


def _cells(verdict: Verdict) -> tuple[str, ...]:
    interval = f" ({verdict.interval[0]:.4g} to {verdict.interval[1]:.4g})" if verdict.interval else ""
    observed = f"{_number(verdict.observed)}{interval}" if verdict.has_figure else "–"
    return verdict.gate, verdict.word, observed, _number(verdict.limit), verdict.reason


def _table_cells(table: Table) -> list[tuple[str, ...]]:
    return [tuple(_cell(value) for value in row) for row in table.rows]


def _cell(value: str | float | None) -> str:
    return "–" if value is None else value if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    """Four digits that count, and all of a count's."""
    if math.isfinite(value) and value == round(value) and abs(value) < 1e12:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(columns), _row(["---"] * len(columns)), *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(cell: str) -> str:
    """Text that neither ends its cell nor is read as HTML: a category may have any letters."""
    one_line = " ".join(cell.split())
    return one_line.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
