"""Renders the pages' templates, and formats their times."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from pipeline.data.label_delay import LabelDelay


def rendered(template: str, facts: dict[str, Any]) -> str:
    """The template filled with `facts`, as HTML. Raises jinja2.UndefinedError for a missing fact."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["moment"] = moment
    environment.filters["label_delay"] = LabelDelay.read
    return environment.get_template(template).render(facts)


def moment(text: str | None) -> str:
    """A time of the ledger, formatted for a person, in UTC."""
    return datetime.fromisoformat(text).strftime("%d %b %Y %H:%M:%S") if text else "?"
