"""The pages' templates, and how a time is written on them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2


def rendered(template: str, facts: dict[str, Any]) -> str:
    """The template with its facts as HTML. Raises for a fact that is missing."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["moment"] = moment
    return environment.get_template(template).render(facts)


def moment(text: str | None) -> str:
    """A time of the ledger as a person reads it, in UTC."""
    return datetime.fromisoformat(text).strftime("%d %b %Y %H:%M:%S") if text else "?"
