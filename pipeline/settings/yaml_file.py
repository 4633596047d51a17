"""YAML of our own files, read by libyaml where PyYAML has it: the same values in a tenth of the time, in every task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import SettingsError


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key that is written twice: PyYAML would take the last one silently, and DVC refuses such a file."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and seen.setdefault(key.value, key) is not key and key.value != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is written twice", key.start_mark)
        return super().construct_mapping(node, deep)

    def time_or_text(self, node: yaml.ScalarNode) -> Any:
        """A time; 2024-13-01 is text, so that only its own key is refused and not the whole file."""
        try:
            return self.construct_yaml_timestamp(node)
        except ValueError:
            return self.construct_scalar(node)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.time_or_text)


def parse(text: str) -> Any:
    """Raises yaml.YAMLError."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, nesting without an end
        raise yaml.YAMLError(str(error)) from error


def mapping(path: Path) -> dict[Any, Any]:
    """The file's keys and values. Raises SettingsError, which names the line where the file is no YAML, or has no keys."""
    try:
        text = path.read_text(encoding="utf-8")
        values = parse(text)
    except OSError as error:
        raise SettingsError(
            str(path), f"cannot be read ({error.strerror})", "is it there, and yours to read?"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingsError(f"{path} line {line}", "is no UTF-8", "save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise _not_yaml(path, text, error) from error
    if not isinstance(values, dict):
        what = "is empty" if values is None else f"is a {type(values).__name__}, no keys with values"
        raise SettingsError(str(path), what, "restore it: `git diff` shows what was changed")
    return values


def _not_yaml(path: Path, text: str, error: yaml.YAMLError) -> SettingsError:
    mark, what = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    # A file that ends too early is marked after its last line.
    where = f"{path} line {min(mark.line + 1, len(text.splitlines()))}" if mark is not None else str(path)
    return SettingsError(
        where, f"is not YAML ({what})", "correct it there: until then no new run starts, and what is live stays"
    )
