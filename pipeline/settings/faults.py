"""Faults of params.yaml. Each is one line with the key's full name; those of one section or model are told together."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from pipeline.errors import NEXT_LINE, SettingsError
from pipeline.settings.examples import example

# Where a value may be of several kinds, pydantic tells its fault once for each kind, with the kind's name after the key.
KINDS = ("bool", "int", "float", "str")
OF_ANY_KIND = ("allowed", "options", "positive")
# The name of a kind that is made of others; it is no key of anybody.
COMPOSED = re.compile(r"(tuple|list|dict|set|function-\w+)\[")

# A value that somebody pasted into a wrong place may have any length.
LONGEST_LINE = 600

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def fault(*what: str) -> SettingsError:
    """The faults as one error, a line for each."""
    short = [line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…" for line in what]
    return SettingsError("params.yaml", NEXT_LINE.join(short), "correct it there; docs/params.md lists every key")


def missing(key: str) -> str:
    """The fault of a key that is not there, with an example where there is one."""
    added = example(key)
    return f"missing key {key} (for example {added})" if added else f"missing key {key}"


def all_faults(error: ValidationError, at: str, between: Iterable[tuple[str, str]] = ()) -> list[str]:
    """The faults of the section at the key `at`: those of its keys, then those `between` them, as (key, what)."""
    each = [(tuple(map(str, single["loc"])), single["type"], single["msg"]) for single in error.errors()]
    found = [_told(at, list(loc), kind, what) for loc, kind, what in each if not _of_another_kind(loc, each)]
    found += [_told(at, [key] if key else [], "", what) for key, what in between]
    return list(dict.fromkeys(found))


def _of_another_kind(loc: tuple[str, ...], each: Sequence[tuple[tuple[str, ...], str, str]]) -> bool:
    """Whether the value fits another kind than this one, so that only the faults of that one help."""
    if not loc or not COMPOSED.match(loc[-1]):
        return False
    beside = [other for other, *_ in each if other[: len(loc) - 1] == loc[:-1]]
    return any(len(other) > len(loc) for other in beside)


def _told(at: str, parts: list[str], kind: str, what: str) -> str:
    if "ranges" in parts[:-2] and parts[-1] in KINDS:
        parts, what = parts[: parts.index("ranges") + 2], "must be a list of texts, numbers, true or false"
    if "options" in parts[:-2]:
        # Behind the option's name comes the kind that did not fit, and for a list the place in it.
        parts, what = parts[: parts.index("options") + 2], "must be text, a number, true or false"
    if parts and parts[-1] in KINDS and {*OF_ANY_KIND} & {*parts}:
        parts, what = parts[:-1], "must be text, a number, true or false"
    key = ".".join([at, *(part for part in parts if not COMPOSED.match(part))])
    if kind == "tuple_type":
        what = "must be a list, like [a, b]"
    if kind in ("model_type", "dict_type"):
        what = "must have keys of its own, like {key: value}"
    if kind == "missing":
        return missing(key)
    if kind == "extra_forbidden":
        return f"unknown key {key}"
    return f"{key}: {what.removeprefix('Value error, ')}"


def read_sections(
    file: type[BaseModel], raw: Mapping[Any, Any], leave_out: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, SettingsError]]:
    """(the sections of `file` that are right, the faults of the others and of unknown keys), both by key."""
    read: dict[str, Any] = {}
    faults = {str(key): fault(f"unknown key {key}") for key in raw if key not in file.model_fields}
    for key, field in file.model_fields.items():
        if key in leave_out:
            continue
        section = field.annotation
        assert isinstance(section, type) and issubclass(section, BaseModel)
        try:
            if key in raw:
                read[key] = section.model_validate(raw[key])
            elif field.is_required():
                faults[key] = fault(missing(key))
            else:
                read[key] = field.default
        except ValidationError as error:
            faults[key] = fault(*all_faults(error, key))
    return read, faults


def readable_part(kind: type[AnyModel], raw: Any, error: ValidationError) -> AnyModel:
    """`kind` made of what is right in `raw`, whose faults `error` has. It lacks the attributes of keys that are wrong or missing."""
    return _part(kind, raw, [single["loc"] for single in error.errors()])


@functools.cache
def _reader(kind: type[BaseModel], name: str) -> TypeAdapter[Any]:
    field = kind.model_fields[name]
    annotation: Any = Annotated[field.annotation, field]
    return TypeAdapter(annotation)


def _part(kind: type[AnyModel], raw: Any, faults: Sequence[tuple[int | str, ...]]) -> AnyModel:
    values = raw if isinstance(raw, Mapping) else {}
    right: dict[str, Any] = {}
    lacking = []
    for name, field in kind.model_fields.items():
        section, inside = field.annotation, [loc[1:] for loc in faults if loc[:1] == (name,)]
        if name not in values:
            lacking += [name] if field.is_required() else []
        elif isinstance(section, type) and issubclass(section, BaseModel) and isinstance(values[name], Mapping):
            right[name] = _part(section, values[name], inside)
        elif inside:
            lacking.append(name)
        else:
            right[name] = _reader(kind, name).validate_python(values[name])
    part = kind.model_construct(**right)
    for name in lacking:
        part.__dict__.pop(name, None)
    return part
