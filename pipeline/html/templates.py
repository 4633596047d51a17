"""Renders the pages' templates, and formats their times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

LAYOUTS = Path(__file__).parent


def rendered(template: Path, facts: dict[str, Any], filters: Mapping[str, Callable[[Any], Any]] | None = None) -> str:
    """The template filled with `facts`, as HTML. Raises jinja2.UndefinedError for a missing fact."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, LAYOUTS]), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"moment": moment, **(filters or {})}
    return environment.get_template(template.name).render(facts)


def moment(text: str | None) -> str:
    """A time of the ledger, formatted for a person, in UTC."""
    return datetime.fromisoformat(text).strftime("%d %b %Y %H:%M:%S") if text else "?"
