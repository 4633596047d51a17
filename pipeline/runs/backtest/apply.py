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
    """Writes the cheapest policy as the model's `policy`, and returns that in a sentence.

    Raises SettingsError where the history cannot tell, and for a file that cannot be changed by its lines.
    """
    name, file = found.model, project / "params.yaml"
    if not found.comparison.tells:
        raise SettingsError(f"backtest {name} --apply", "writes nothing", found.recommendation)
    policy = policy_of(found)
    with file.open(encoding="utf-8", newline="") as opened:
        text = given = opened.read()
    wanted = yaml_file.parse(given)
    block = wanted["models"][name]
    block["policy"] = {**(block.get("policy") or {}), **policy}
    for key, value in policy.items():
        text = _with_key(text, name, key, str(value))
    # By the values, so that no form of YAML that somebody writes can lose a key.
    if yaml_file.parse(text) != wanted:
        keys = " and ".join(f"models.{name}.policy.{key}: {value}" for key, value in policy.items())
        raise SettingsError(str(file), "cannot be changed by its lines alone", f"write {keys} by hand")
    yaml_file.replace(file, text)
    return f"params.yaml has models.{name}.policy.rule: {policy['rule']} now"


def policy_of(found: Backtest) -> dict[str, Any]:
    """The keys of `policy` that are the cheapest policy."""
    best, every = found.comparison.best.policy, found.comparison.schedule
    if best == rules.ALWAYS.name:
        every = 1
    elif best != rules.TUNED:
        return {"rule": best}
    # A schedule that never comes is never.
    return {"rule": rules.NEVER.name} if every is None else {"rule": "schedule", "every_days": every * found.span.days}


def _with_key(text: str, model: str, key: str, value: str) -> str:
    """The text with this key of the model's policy; as it is where its lines do not show where that stands."""
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    block = _value(_value(root, "models"), model)
    section = _value(block, "policy")
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
        lines.insert(at.line, f"{indent}policy:{ends}{indent}  {key}: {value}{ends}")
    return "".join(lines)


def _on_lines(node: yaml.Node | None) -> TypeGuard[yaml.MappingNode]:
    """Whether it has keys, each on a line of its own."""
    return isinstance(node, yaml.MappingNode) and bool(node.value) and not node.flow_style


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)
