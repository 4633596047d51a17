"""Writes what a backtest recommends into the model's block of params.yaml, a line of it, and leaves all else as people wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeGuard

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
        days = found.windows.best.days
        wanted_keys["source", "window_days"] = int(days) if days == int(days) else days
    if not wanted_keys:
        raise SettingsError(f"backtest {name} --apply", "writes nothing", found.recommendation)
    with file.open(encoding="utf-8", newline="") as opened:
        text = given = opened.read()
    wanted = yaml_file.parse(given)
    block = wanted["models"][name]
    for (section, key), value in wanted_keys.items():
        block[section] = {**(block.get(section) or {}), key: value}
        text = _with_key(text, name, section, key, str(value))
    # By the values, so that no form of YAML that somebody writes can lose a key.
    if yaml_file.parse(text) != wanted:
        keys = " and ".join(f"models.{name}.{section}.{key}: {value}" for (section, key), value in wanted_keys.items())
        raise SettingsError(str(file), "cannot be changed by its lines alone", f"write {keys} by hand")
    yaml_file.replace(file, text)
    told = [f"models.{name}.{section}.{key}: {v}" for (section, key), v in wanted_keys.items() if key != "every_days"]
    return f"params.yaml has {' and '.join(told)} now"


def policy_of(found: Backtest) -> dict[str, Any]:
    """The keys of `policy` that are the cheapest policy."""
    best, every = found.comparison.best.policy, found.comparison.schedule
    if best == rules.ALWAYS.name:
        every = 1
    elif best != rules.TUNED:
        return {"rule": best}
    # A schedule that never comes is never.
    return {"rule": rules.NEVER.name} if every is None else {"rule": "schedule", "every_days": every * found.span.days}


def _with_key(text: str, model: str, part: str, key: str, value: str) -> str:
    """The text with this key of a section of the model; as it is where its lines do not show where that stands."""
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    block = _value(_value(root, "models"), model)
    section = _value(block, part)
    lines = text.splitlines(keepends=True)
    ends = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    if (node := _value(section, key)) is not None:
        line, start, end = lines[node.start_mark.line], node.start_mark.column, node.end_mark.column
        lines[node.start_mark.line] = f"{line[:start]}{value}{line[end:]}"
    elif _on_lines(section):
        at = section.value[0][0].start_mark
        lines.insert(at.line, f"{' ' * at.column}{key}: {value}{ends}")
    elif _on_lines(block):
        at = block.value[0][0].start_mark
        indent = " " * at.column
        lines.insert(at.line, f"{indent}{part}:{ends}{indent}  {key}: {value}{ends}")
    return "".join(lines)


def _on_lines(node: yaml.Node | None) -> TypeGuard[yaml.MappingNode]:
    """Whether it has keys, each on a line of its own."""
    return isinstance(node, yaml.MappingNode) and bool(node.value) and not node.flow_style


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)
