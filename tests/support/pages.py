"""The pages of docs/ as somebody follows them: each command run, each file written, each change of params.yaml made, in order.

A block of `sh` is commands; one that ends with `# exit code 1` is refused. A block of `text` behind it is what they say, where `…` stands
for what differs. A block of `python` behind a line "`NAME.py`:" is that file. A block of `yaml` behind a line that names `models.NAME` is
merged into that model, behind one that names the top of params.yaml into the file; an empty key is taken out.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from harness import served

REFUSED = "# exit code 1"


@dataclass(frozen=True)
class Block:
    """A fenced block: the line before it, its language, its content."""

    before: str
    language: str
    content: str

    @property
    def names(self) -> list[str]:
        """The files that the line before it names."""
        return re.findall(r"`([\w./]+\.py)`", self.before)


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(text[: m.start()].rstrip().rpartition("\n")[2], m[1], m[2]) for m in found]


def commands(block: Block) -> Iterator[str]:
    """The block's commands; one may go on over lines that end with a backslash."""
    for command in re.split(r"(?<!\\)\n", block.content.strip()):
        if command.strip() and not command.lstrip().startswith("#"):
            yield command


def follow(page: Path, project: Path, environment: Mapping[str, str], ports: Mapping[str, str]) -> None:
    """Does what the page says in `project`. `ports` are those in the page's addresses, by what stands in their place here."""
    said = ""
    for written in blocks(page):
        block = replace(written, content=_with_ports(written.content, ports))
        if block.language == "sh":
            said = "".join(_run(page, command, project, environment) for command in commands(block))
        elif block.language == "text":
            missing = [line for line in block.content.strip().splitlines() if not _pattern(line).search(said)]
            assert not missing, f"{page.name}: {missing[0]!r} is not in\n{said}"
        elif block.language == "python":
            assert len(block.names) == 1, f"{page.name}: the line before a file must name it: {block.before!r}"
            (project / block.names[0]).write_text(block.content, encoding="utf-8")
        elif block.language == "yaml":
            named = re.findall(r"`models\.([\w-]+)`", block.before) or [""] * ("the top of params.yaml" in block.before)
            assert len(named) == 1, f"{page.name}: the line before settings must name their model: {block.before!r}"
            _merge(project / "params.yaml", named[0], yaml.safe_load(block.content))
        else:
            raise AssertionError(f"{page.name}: a block of {block.language or 'no language'} is run by no test")


def _with_ports(text: str, ports: Mapping[str, str]) -> str:
    for here, there in ports.items():
        text = text.replace(f"127.0.0.1:{here}", f"127.0.0.1:{there}")
        text = text.replace(f'("127.0.0.1", {here})', f'("127.0.0.1", {there})')
    return text


def _run(page: Path, command: str, project: Path, environment: Mapping[str, str]) -> str:
    """What the command prints, errors too. Raises AssertionError when its exit code is another than the page says."""
    script = f'perennial() {{ python {shlex.quote(str(served.__file__))} "$@"; }}\n{command}\n'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=project,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    expected = 1 if command.rstrip().endswith(REFUSED) else 0
    assert done.returncode == expected, f"{page.name}: `{command}` ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, line.split("…"))))


def _merge(params: Path, model: str, change: Mapping[str, Any]) -> None:
    settings = yaml.safe_load(params.read_text(encoding="utf-8"))
    _merged(settings["models"][model] if model else settings, change)
    params.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def _merged(into: dict[str, Any], change: Mapping[str, Any]) -> None:
    for key, value in change.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merged(into[key], value)
        else:
            into[key] = value
