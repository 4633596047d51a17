"""Writes what a backtest recommends into the model's block of params.yaml, a line of it, and leaves all else as people wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import SettingsError
from pipeline.policy.retraining import rules
from pipeline.runs.backtest.run import Backtest
from pipeline.settings import yaml_file


def apply(project: Path, found: Backtest) -> str:
    """Writes the cheapest policy as the model's `policy`, and a training window that lost less as its `source.window_days`; what history
    proves of the two. Returns that in a sentence.

    Raises SettingsError where the history cannot tell either, and for a file that cannot be changed by its lines.
    """
    name, file = found.model, project / "params.yaml"
    wanted_keys: dict[tuple[str, str], Any] = {}
    if found.comparison.tells:
        wanted_keys |= {("policy", key): value for key, value in policy_of(found).items()}
    if found.windows is not None and found.windows.best.proven:
        wanted_keys["source", "window_days"] = _whole(found.windows.best.days)
    if not wanted_keys:
        raise SettingsError(f"backtest {name} --apply", "writes nothing", found.recommendation)
    with file.open(encoding="utf-8", newline="") as opened:
        text = given = opened.read()
    wanted = yaml_file.parse(given)
    # A block that another model has by an alias is one object: here each is its own, or both would be changed.
    block = wanted["models"][name] = dict(wanted["models"][name])
    for (section, key), value in wanted_keys.items():
        block[section] = {**(block.get(section) or {}), key: value}
        text = _with_key(text, name, section, key, str(value))
    # By the values, so that no form of YAML that somebody writes can lose a key.
    if not _says(text, wanted):
        keys = " and ".join(f"models.{name}.{section}.{key}: {value}" for (section, key), value in wanted_keys.items())
        raise SettingsError(str(file), "cannot be changed by its lines alone", f"write {keys} by hand")
    yaml_file.replace(file, text)
    told = [f"models.{name}.{section}.{key}: {v}" for (section, key), v in wanted_keys.items() if key != "every_days"]
    return f"params.yaml has {' and '.join(told)} now"


def _whole(days: float) -> float:
    """As a person writes it: 21, not 21.0."""
    return int(days) if days == int(days) else days


def _says(text: str, wanted: Any) -> bool:
    try:
        return bool(yaml_file.parse(text) == wanted)
    except yaml.YAMLError:
        return False


def policy_of(found: Backtest) -> dict[str, Any]:
    """The keys of `policy` that are the cheapest policy."""
    best, every = found.comparison.best.policy, found.comparison.schedule
    if best == rules.ALWAYS.name:
        every = 1
    elif best != rules.TUNED:
        return {"rule": best}
    # A schedule that never comes is never.
    return (
        {"rule": rules.NEVER.name}
        if every is None
        else {"rule": "schedule", "every_days": _whole(every * found.span.days)}
    )


def _with_key(text: str, model: str, part: str, key: str, value: str) -> str:
    """The text with this key of a section of the model; as it is where its lines do not show where that stands, or where a key before it has
    made it unreadable."""
    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return text
    block = _value(_value(root, "models"), model)
    section, pair = _value(block, part), f"{key}: {value}"
    if (node := _value(section, key)) is not None:
        return _put(text, node.start_mark, node.end_mark, f"{_space(node)}{value}")
    if isinstance(section, yaml.MappingNode):
        return _with_pair(text, section, pair, [pair])
    if section is not None:
        return _put(text, section.start_mark, section.end_mark, f"{_space(section)}{{{pair}}}")
    return _with_pair(text, block, f"{part}: {{{pair}}}", [f"{part}:", f"  {pair}"])


def _with_pair(text: str, node: yaml.Node | None, in_braces: str, on_lines: Sequence[str]) -> str:
    """The text with a further pair at the begin of the mapping, in braces or on lines, as its others stand."""
    if not isinstance(node, yaml.MappingNode):
        return text
    if node.flow_style:
        begin = text.find("{", _place(text, node.start_mark)) + 1
        return f"{text[:begin]}{in_braces}{', ' if node.value else ''}{text[begin:]}"
    at = node.value[0][0].start_mark
    ends = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    return _put(text, at, at, "".join(f"{line}{ends}{' ' * at.column}" for line in on_lines))


def _space(node: yaml.Node) -> str:
    """What has to stand behind the colon before a value that is left out."""
    return " " if node.start_mark.index == node.end_mark.index else ""


def _put(text: str, start: yaml.Mark, end: yaml.Mark, value: str) -> str:
    return f"{text[: _place(text, start)]}{value}{text[_place(text, end) :]}"


def _place(text: str, mark: yaml.Mark) -> int:
    """By line and column: the mark's own index does not count a byte order mark."""
    return sum(map(len, text.splitlines(keepends=True)[: mark.line])) + mark.column


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)
