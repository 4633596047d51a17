"""A run's own as-of in its params.yaml. All else stays as people wrote it, but for YAML's own times, which become text.

DVC refuses a file with YAML's own times, also when they stand in the block of another model. The text is changed where libyaml
says that the values stand: ruamel's round trip takes seconds with hundreds of models. It has the word where a text that was changed
so does not say what it should, as with anchors and merged keys.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml

from pipeline.settings import yaml_file
from pipeline.settings.models import time_of


def write(params: Path, model: str, as_of: datetime) -> None:
    """Changes the model's as_of in the file `params`."""
    text = params.read_text(encoding="utf-8")
    document, settings = yaml_file.composed(text)
    had_times = _quote_times(settings)
    own = None
    if time_of(settings["models"][model]["as_of"]) != as_of:
        own = settings["models"][model]["as_of"] = as_of.strftime("%Y-%m-%dT%H:%M:%SZ")
    elif not had_times:
        return  # DVC would take the same time in other words for a new value
    changed = _changed(text, document, model, own)
    if not _says(changed, settings):
        changed = _round_trip(text, model, own)
    params.write_text(changed, encoding="utf-8")


def _changed(text: str, document: yaml.MappingNode, model: str, own: str | None) -> str:
    """`text` with the model's as_of `own`, unless None, and with its times as text."""
    node = _value(_value(_value(document, "models"), model), "as_of") if own is not None else None
    replacing = {node.start_mark.index: (node.end_mark.index, own)} if node is not None else {}
    for time in _times(document, set()):
        value = yaml_file.parse(text[time.start_mark.index : time.end_mark.index])
        if isinstance(value, date):
            replacing.setdefault(time.start_mark.index, (time.end_mark.index, value.isoformat()))
    for start in sorted(replacing, reverse=True):
        end, value = replacing[start]
        text = f"{text[:start]}{json.dumps(value)}{text[end:]}"
    return text


def _says(text: str, settings: Any) -> bool:
    try:
        return bool(yaml_file.composed(text)[1] == settings)
    except yaml.YAMLError:
        return False


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _times(node: yaml.Node, seen: set[int]) -> Iterator[yaml.ScalarNode]:
    """The values of YAML's own times in `node`, each once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        if node.tag.endswith(":timestamp"):
            yield node
        return
    for each in node.value:
        yield from _times(each[1] if isinstance(node, yaml.MappingNode) else each, seen)


def _round_trip(text: str, model: str, own: str | None) -> str:
    from ruamel.yaml import YAML

    round_trip = YAML()
    round_trip.preserve_quotes = True
    round_trip.width = 4096
    settings = round_trip.load(text)
    _quote_times(settings)
    if own is not None:
        settings["models"][model]["as_of"] = own
    changed = io.StringIO()
    round_trip.dump(settings, changed)
    return changed.getvalue()


def _quote_times(values: Any) -> bool:
    """Replaces the times in lists and mappings by their text; returns whether there were any."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    found = False
    for key, value in list(items):
        if isinstance(value, date):
            values[key], found = value.isoformat(), True
        else:
            found = _quote_times(value) or found
    return found
