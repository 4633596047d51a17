"""YAML of our own files, read by libyaml where PyYAML has it: the same values in a tenth of the time, in every task."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import SettingsError

# What people write has ten levels, and 200 models of 1,000 columns have a million values.
DEEPEST, MOST_VALUES = 40, 2_000_000


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


class _SettingsLoader(_Loader):
    """What people write, read as DVC reads it, by YAML 1.2: NO, on and 1:30 are text, 1e-5 is a number.

    A number with a zero before it stays text too. PyYAML takes 010 for 8 and DVC for 10, and as a category it is "010"; where a
    number stands it is read as 10.
    """

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if tag.rpartition(":")[2] not in ("bool", "int", "float")]
        for first, forms in _Loader.yaml_implicit_resolvers.items()
    }


for _kind, _form, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F_]+|0b[01_]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    _SettingsLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_form})$"), list(_first))


# A colon within a word, in a list or mapping in brackets: [module:function]. YAML 1.2 and PyYAML take it for text; the parser that DVC has
# refuses it, and with it the file of all models. Such text in a query's SQL is none, so DVC's parser has the last word.
_COLON_IN_BRACKETS = re.compile(r"""(?:[\[{,]|\{[^{}]*:)\s*[^\s"'\[\]{},#:]+:[^\s\]},]""")


def _refuse_what_dvc_refuses(text: str) -> None:
    """Raises yaml.YAMLError for text that a run's stages could not read."""
    if _COLON_IN_BRACKETS.search(text):
        import ruamel.yaml

        try:
            ruamel.yaml.YAML(typ="safe").load(text)
        except ruamel.yaml.error.MarkedYAMLError as error:
            raise yaml.MarkedYAMLError(
                problem=f"{error.problem}: put the text into quotes", problem_mark=error.problem_mark
            ) from error


def parse(text: str, loader: type[_Loader] = _Loader) -> Any:
    """Raises yaml.YAMLError."""
    try:
        return yaml.load(text, Loader=loader)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, nesting without an end
        raise yaml.YAMLError(str(error)) from error


def _refuse_endless(values: Any) -> None:
    """Raises yaml.YAMLError for an alias within what it stands for, and for aliases of aliases that come to more than memory holds: a file
    of a few lines, which each reader of its values would follow without an end."""
    inside, count = [(values, 0)], 0
    while inside:
        value, depth = inside.pop()
        count += 1
        if depth > DEEPEST or count > MOST_VALUES:
            many = f"deeper than {DEEPEST} levels" if depth > DEEPEST else f"more than {MOST_VALUES:,} values"
            raise yaml.YAMLError(f"{many}, by brackets or by aliases (*name)")
        if isinstance(value, dict | list):
            inside += [(inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value)]


def mapping(path: Path) -> dict[Any, Any]:
    """The file's keys and values. Raises SettingsError, which names the line where the file is no YAML, or has no keys."""
    try:
        text = path.read_text(encoding="utf-8")
        values = parse(text, _SettingsLoader)
        _refuse_endless(values)
        _refuse_what_dvc_refuses(text)
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


def replace(file: Path, text: str) -> None:
    """Writes the file anew, whole or not at all; of a link, what it points to. Its rights and the text's ends of lines stay."""
    file = file.resolve()
    part = file.with_name(f".{file.name}.part")
    part.write_text(text, encoding="utf-8", newline="")
    shutil.copymode(file, part)
    os.replace(part, file)


def _not_yaml(path: Path, text: str, error: yaml.YAMLError) -> SettingsError:
    mark, what = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    # A file that ends too early is marked after its last line.
    where = f"{path} line {min(mark.line + 1, len(text.splitlines()))}" if mark is not None else str(path)
    return SettingsError(
        where, f"is not YAML ({what})", "correct it there: until then no new run starts, and what is live stays"
    )
