"""Faults of params.yaml: each is one line with the key's full name, and each section has its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.errors import SettingsError


def fault(what: str) -> SettingsError:
    return SettingsError("params.yaml", what, "correct it there; docs/params.md lists every key")


def first_fault(error: ValidationError, at: str) -> str:
    """The first fault of the section at the key `at`, and how many more there are."""
    faults = error.errors()
    where = ".".join([at, *(str(part) for part in faults[0]["loc"])])
    kind = faults[0]["type"]
    what = {"extra_forbidden": "unknown key", "missing": "missing key"}.get(kind, faults[0]["msg"])
    what = what.removeprefix("Value error, ")
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{what} {where}{more}" if kind in ("extra_forbidden", "missing") else f"{where}: {what}{more}"


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
                faults[key] = fault(f"missing key {key}")
            else:
                read[key] = field.default
        except ValidationError as error:
            faults[key] = fault(first_fault(error, key))
    return read, faults
