"""The `notify` section of params.yaml: who is told what happens, and from when on a disk counts as nearly full."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, ValidationError, field_validator

from pipeline.errors import SettingsError
from pipeline.settings.environment import named_secret
from pipeline.settings.faults import all_faults, fault
from pipeline.settings.section import Section
from pipeline.settings.slo import Severity

VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
# The addresses of apprise that name a place and hold no token.
OPEN_SCHEMES = ("json", "jsons", "form", "forms", "xml", "xmls", "mailto", "mailtos")
SECRET_KEYS = ("pass", "password", "token", "secret", "key", "apikey", "auth")


class Recipient(Section):
    """`url` is an address of apprise, or the name of the environment variable that has one. Empty `models` and `teams` mean all."""

    url: str
    name: str = Field(default="", max_length=60)
    models: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    severities: tuple[Severity, ...] = Field(default=("warning", "critical"), min_length=1)

    @field_validator("url")
    @classmethod
    def is_no_secret(cls, url: str) -> str:
        if VARIABLE.fullmatch(url):
            return url
        try:
            parts = urlsplit(url)
            asked = [name.lower() for name, _ in parse_qsl(parts.query)]
            secret = parts.password is not None or any(name in SECRET_KEYS for name in asked)
        except ValueError as error:
            raise ValueError(f"is no address ({error})") from error
        if parts.scheme not in OPEN_SCHEMES or secret:
            raise ValueError(
                "params.yaml holds no secrets: write the address into an environment variable, and its name here, like NOTIFY_SLACK"
            )
        return url

    @property
    def label(self) -> str:
        """What the ledger and people call it: its name, the variable's, or the address without its path."""
        if self.name or VARIABLE.fullmatch(self.url):
            return self.name or self.url
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    @property
    def address(self) -> str:
        """The address itself; '' for a variable that is not set."""
        return named_secret(self.url).strip() if VARIABLE.fullmatch(self.url) else self.url

    def takes(self, model: str, team: str | None, severity: str) -> bool:
        """Whether it is told of such a matter; one of no model ('') goes to those who are told of all models."""
        if severity not in self.severities:
            return False
        if not self.models and not self.teams:
            return True
        return any(fnmatchcase(model, pattern) for pattern in self.models if model) or (
            bool(team) and team in self.teams
        )


class Notify(Section):
    """`notify`: who is told of what; nobody where `to` is empty."""

    # A disk with a smaller share of free space counts as nearly full.
    disk_free: float = Field(default=0.1, ge=0, lt=1)
    to: tuple[Recipient, ...] = ()


@dataclass(frozen=True)
class Notices:
    """The section as far as it is right: `faults` by key; a fault in one recipient keeps no other from being told."""

    disk_free: float = 0.1
    to: tuple[Recipient, ...] = ()
    faults: Mapping[str, SettingsError] = field(default_factory=dict)

    @classmethod
    def read(cls, raw: Any) -> Notices:
        if not isinstance(raw, dict):
            return cls(faults={"notify": fault("notify: must be a mapping, like {to: [{url: NOTIFY_SLACK}]}")})
        faults = {f"notify.{key}": fault(f"unknown key notify.{key}") for key in raw if key not in Notify.model_fields}
        disk_free = cls.disk_free
        right: list[Recipient] = []
        try:
            disk_free = Notify.model_validate({k: v for k, v in raw.items() if k == "disk_free"}).disk_free
        except ValidationError as error:
            faults["notify.disk_free"] = fault(*all_faults(error, "notify"))
        listed = raw.get("to", [])
        if not isinstance(listed, list):
            faults["notify.to"] = fault("notify.to: must be a list, like [{url: NOTIFY_SLACK}]")
            listed = []
        for place, values in enumerate(listed):
            at = f"notify.to.{place}"
            try:
                recipient = Recipient.model_validate(values)
            except ValidationError as error:
                faults[at] = fault(*all_faults(error, at))
                continue
            if recipient.label in [other.label for other in right]:
                faults[at] = fault(
                    f"{at}.name: {recipient.label} is an earlier recipient's; give this one a name of its own"
                )
                continue
            right.append(recipient)
        return cls(disk_free, tuple(right), faults)
