"""A model's block as text with comments, put into params.yaml without touching what stands there."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import SettingsError
from pipeline.init.request import Draft
from pipeline.settings import yaml_file

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Words that YAML 1.1 or 1.2 reads as something else than a text.
NOT_PLAIN = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null", "none"})
WIDTH = 110
COMMENTS = {
    "as_of": "of `perennial retrain` and `dvc repro`; a run of the Dag sets its own",
    "start": "the Dag's first interval; nothing before it is caught up on",
    "label_time": "a label counts as known from this time on",
    "window_days": "a run learns from so many days before its as-of",
    "holdout_days": "the last days of the window judge a version; what is served is then fitted on them too",
    "metric_limit": "a version that is worse is not registered",
    "baseline_margin": "better than the naive guess by this",
    "max_bad_share": "of the rows may break the contract; they are quarantined",
}

COMMENTS_OF = {"policy.window_days": "versions' losses are compared by windows of so many days"}


def text(draft: Draft, indent: int = 2) -> str:
    """The block, `indent` spaces in, with a comment for what a reader would ask."""
    left_out = [f"# {line}" for line in map(str, draft.left_out)]
    lines = [f"{_scalar(draft.model)}:", *(f"  {line}" for line in _mapping(draft.settings, left_out))]
    return textwrap.indent("\n".join(lines) + "\n", " " * indent)


def _mapping(values: dict[str, Any], left_out: list[str], path: str = "") -> list[str]:
    lines: list[str] = []
    for name, value in values.items():
        # A column's name may be anything.
        key = _scalar(name)
        comment = COMMENTS_OF.get(f"{path}{name}", COMMENTS.get(name, "") if path != "monitor." else "")
        if isinstance(value, dict):
            lines.append(f"{key}:")
            lines += [f"  {line}" for line in _mapping(value, left_out, f"{key}.")]
        elif isinstance(value, list):
            lines += _list(key, value)
        elif isinstance(value, str) and "\n" in value:
            lines += [f"{key}: |", *(f"  {line}" for line in value.splitlines())]
        else:
            lines.append(f"{key}: {_scalar(value)}" + (f"  # {comment}" if comment else ""))
        if key == "training":
            lines += [f"  {line}" for line in left_out]
    return lines


def _list(key: str, values: list[Any]) -> list[str]:
    """A list in brackets, over several lines when it is long."""
    parts = [f"{_scalar(value)}{',' if i < len(values) - 1 else ''}" for i, value in enumerate(values)]
    lines, line = [], f"{key}: ["
    for i, part in enumerate(parts):
        if i and len(line) + len(part) > WIDTH:
            lines.append(line.rstrip())
            line = " " * (len(key) + 3)
        line += part + " "
    return [*lines, line.rstrip() + "]"]


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = PLAIN.fullmatch(value) and value.lower() not in NOT_PLAIN
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value)


def add(file: Path, draft: Draft) -> None:
    """Adds the block to the models in `file`, which keeps its text. Raises SettingsError, and then `file` is as it was."""
    before = yaml_file.mapping(file)
    models = before.get("models")
    if isinstance(models, dict) and draft.model in models:
        raise SettingsError(
            f"model {draft.model}", f"is in {file.name} already", "give another name, or take its block out first"
        )
    if models is not None and not isinstance(models, dict):
        raise SettingsError(
            str(file), "models: is not a list of models by their names", "write `models:` on a line of its own"
        )
    with file.open(encoding="utf-8", newline="") as opened:
        given = opened.read()
    written = _inserted(given, draft, bool(models))
    if not _keeps(given, written, draft.model):
        raise SettingsError(
            str(file),
            "cannot take a block without a change to what stands there",
            "write each model on lines of its own below `models:`, or add the block that --dry-run shows by hand",
        )
    yaml_file.replace(file, written)


def _keeps(given: str, written: str, model: str) -> bool:
    """Whether `written` says all that `given` does, and the block of `model` beside it."""
    before = yaml_file.parse(given)
    try:
        after = yaml_file.parse(written)
    except yaml.YAMLError:
        return False
    others = {name: block for name, block in (after.get("models") or {}).items() if name != model}
    return others == (before.get("models") or {}) and (before | {"models": None}) == (after | {"models": None})


def _inserted(given: str, draft: Draft, has_models: bool) -> str:
    """`given` with the block after the last model's, and the ends of lines that `given` has."""
    lines = given.splitlines(keepends=True)
    end_of_line = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += end_of_line
    root = yaml.compose(given, Loader=yaml.SafeLoader)
    node = next((value for key, value in root.value if key.value == "models"), None) if root is not None else None
    if not has_models:
        # `models:` alone, `models: {}`, or no such key.
        at = next((i for i, line in enumerate(lines) if re.match(r"models\s*:", line)), None)
        if at is None:
            return "".join([*lines, *_ended(f"\nmodels:\n{text(draft)}", end_of_line)])
        comment = re.search(r"\s#.*", lines[at])
        lines[at] = f"models:{comment[0].rstrip() if comment else ''}{end_of_line}"
        return "".join([*lines[: at + 1], *_ended(text(draft), end_of_line), *lines[at + 1 :]])
    assert node is not None
    indent = node.value[0][0].start_mark.column
    end = min(node.end_mark.line + (node.end_mark.column > 0), len(lines))
    while end and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return "".join([*lines[:end], *_ended(text(draft, indent), end_of_line), *lines[end:]])


def _ended(block: str, end_of_line: str) -> list[str]:
    return [f"{line}{end_of_line}" for line in block.splitlines()]
