"""Charts of the pages: figures for Plotly's script, which comes from the package that Evidently installs and from nowhere else.

A figure is what Plotly's script takes: {"data": [traces], "layout": {…}}. A colour may be one of the page's CSS variables, like
`var(--c1)`: the page fills it in, and again when the light or dark of the system changes. What users wrote goes through `text`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# A year: the address holds the version, so that another one is another address.
CACHE = "private, max-age=31536000, immutable"
# Pixels above a chart in which Plotly's tool bar has room, so that it lies over no bar or line.
TOOL_BAR = 36


@functools.cache
def version() -> str:
    """The version of the package that has the script."""
    return importlib.metadata.version("plotly")


@functools.cache
def script() -> Path:
    """Plotly's own script. The package is not imported: only its file is needed."""
    found = importlib.util.find_spec("plotly")
    places = list(found.submodule_search_locations or ()) if found is not None else []
    return Path(places[0] if places else "plotly") / "package_data" / "plotly.min.js"


def figure(data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> dict[str, Any]:
    """The figure as values that JSON has: a number that is none (NaN, infinite) is a gap."""
    plain = _plain({"data": list(data), "layout": dict(layout)})
    assert isinstance(plain, dict)
    return plain


def text(value: object) -> str:
    """A text of a user's as Plotly shows it: Plotly reads `<b>`, `<a href>` and a few more in any text."""
    return str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
