"""A run's params.yaml without the blocks of other models: DVC reads the file three times a stage, with a parser that is slow by design."""

from __future__ import annotations

from pathlib import Path

import yaml

from pipeline.settings import yaml_file


def keep(params: Path, model: str) -> None:
    """Takes the other models' blocks out of the file, with the comments among and behind their lines. All else stays as it is written.

    A file in which that cannot be told by the lines alone stays whole: one with an anchor that is used elsewhere, or with blocks in braces.
    """
    text = params.read_text(encoding="utf-8")
    lines = _without_others(text, model)
    if lines is None:
        return
    shorter = "".join(lines)
    settings = yaml_file.parse(text)
    settings["models"] = {model: settings["models"][model]}
    # By the values, so that no form of YAML that somebody writes can lose a key.
    if yaml_file.parse(shorter) == settings:
        params.write_text(shorter, encoding="utf-8")


def _without_others(text: str, model: str) -> list[str] | None:
    """The lines that stay; None where there is nothing to take out, or where it cannot be told."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)):
        return None
    root = yaml.compose(text, Loader=loader)
    blocks = next((block for key, block in root.value if key.value == "models"), None)
    if not isinstance(blocks, yaml.MappingNode) or blocks.flow_style or len(blocks.value) < 2:
        return None
    lines, kept = text.splitlines(keepends=True), []
    begins = [key.start_mark.line for key, _ in blocks.value]
    ends = [*begins[1:], blocks.end_mark.line]
    kept += lines[: begins[0]]
    for (key, _), begin, end in zip(blocks.value, begins, ends, strict=True):
        kept += lines[begin:end] if key.value == model else []
    return kept + lines[ends[-1] :]
