"""Renders the pages' templates, and formats their times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

LAYOUTS = Path(__file__).parent


def rendered(template: Path, facts: dict[str, Any], filters: Mapping[str, Callable[[Any], Any]] | None = None) -> str:
    """The template filled with `facts`, as HTML. Raises jinja2.UndefinedError for a missing fact."""
    environment = _environment(template.parent)
    environment.filters |= filters or {}
    return environment.get_template(template.name).render(facts)


@cache
def _environment(folder: Path) -> jinja2.Environment:
    """Kept, because it keeps the compiled templates: to compile one takes longer than to fill it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, LAYOUTS]), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["moment"] = moment
    return environment


def moment(text: str | None) -> str:
    """A time of the ledger, formatted for a person, in UTC."""
    return datetime.fromisoformat(text).strftime("%d %b %Y %H:%M:%S") if text else "?"
