"""Puts a version's card together, and writes it as Markdown and as HTML."""

from __future__ import annotations

from pathlib import Path

from pipeline.context import Context
from pipeline.html.templates import rendered
from pipeline.ledger import store
from pipeline.runs.model_card import history, judged, made_of
from pipeline.runs.model_card.content import Card, CardTable, Section
from pipeline.runs.model_card.known import chosen_version, known

PARTS = (
    *(made_of.purpose, made_of.identity, made_of.data, made_of.features, made_of.training),
    *(judged.metrics, judged.explanation, judged.parts, made_of.limits, judged.gates, judged.approvals),
    history.history,
)
# What Markdown takes for markup within a cell.
MARKED = str.maketrans({letter: f"\\{letter}" for letter in "\\|*`[<"} | {"\n": " ", "\r": " "})


def card(context: Context, model: str, version: str = "") -> Card:
    """The card of a version as ledger and MLflow have it now; of the live one, or else the newest, for ''. Raises RegistryError."""
    found = known(context, model, chosen_version(context, model, version))
    return Card(model, found.version, store.now(), [part(found).whole for part in PARTS])


def markdown(card: Card) -> str:
    """The card as Markdown, without pictures."""
    lines = [f"# Model card: {card.model} version {card.version}", "", f"Made {card.made_at}."]
    for section in card.sections:
        lines += ["", f"## {section.title}"]
        if section.facts:
            lines += ["", *(f"- **{name}**: {_plain(value)}" for name, value in section.facts)]
        for table in section.tables:
            lines += ["", *_table(table)]
        for note in section.notes:
            lines += ["", _plain(note)]
    return "\n".join(lines) + "\n"


def _table(table: CardTable) -> list[str]:
    title = [f"**{_plain(table.title)}**", ""] if table.title else []
    rows = ["| " + " | ".join(_plain(cell) for cell in row) + " |" for row in table.rows]
    return [*title, "| " + " | ".join(map(_plain, table.columns)) + " |", "|" + "---|" * len(table.columns), *rows]


def _plain(text: str) -> str:
    return text.translate(MARKED)


def html(card: Card, root: str = "") -> str:
    """The card as a page of its own; `root` is the address of the pages that it leads to, '' where there are none."""
    sections: list[Section] = list(card.sections)
    facts = {"model": card.model, "version": card.version, "made_at": card.made_at, "sections": sections, "root": root}
    return rendered(Path(__file__).with_name("card.html"), facts)
