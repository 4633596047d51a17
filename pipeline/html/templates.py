"""Renders the pages' templates, and formats their times."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

LAYOUTS = Path(__file__).parent


def rendered(template: Path, facts: dict[str, Any], filters: Mapping[str, Callable[[Any], Any]] | None = None) -> str:
    """The template filled with `facts`, as HTML that UTF-8 can write: half a surrogate pair is shown as its escape.

    Raises jinja2.UndefinedError for a missing fact.
    """
    page = compiled(template, tuple((filters or {}).items())).render(facts)
    return page.encode("utf-8", "backslashreplace").decode()


@functools.cache
def compiled(template: Path, filters: tuple[tuple[str, Callable[[Any], Any]], ...]) -> jinja2.Template:
    """To read a large template takes longer than to fill it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, LAYOUTS]), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"moment": moment, "coded": coded, **dict(filters)}
    return environment.get_template(template.name)


def moment(text: str | None) -> str:
    """A time of the ledger, formatted for a person, in UTC."""
    return datetime.fromisoformat(text).strftime("%d %b %Y %H:%M:%S") if text else "?"


def coded(text: str) -> Markup:
    """A message as HTML in which what stands between backticks, like a command, is code."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(text))))
