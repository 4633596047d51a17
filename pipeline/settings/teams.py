"""The teams of params.yaml, and how many steps of their models may run at once. Airflow has a pool of its own for each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, ValidationError

from pipeline.errors import NEXT_LINE, SettingsError
from pipeline.settings.faults import all_faults, fault
from pipeline.settings.section import MOST, Section

TEAM_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,38}[a-z0-9])?")


def pool_of(team: str) -> str:
    """The name of a team's pool in Airflow."""
    return f"team__{team}"


class Team(Section):
    """`teams.NAME`: how many steps of its models run at once, and what it may spend on retrains."""

    description: str = ""
    slots: int = Field(ge=1, le=10_000)
    # Of its models with `policy.rule: budget`, in 30 days.
    retrains_a_month: int | None = Field(default=None, ge=0, le=MOST)


@dataclass(frozen=True)
class Teams:
    """The teams that are right, by name, and the faults of the others; '' is that of the whole section."""

    right: Mapping[str, Team] = field(default_factory=dict)
    faults: Mapping[str, SettingsError] = field(default_factory=dict)

    @classmethod
    def read(cls, raw: Any) -> Teams:
        if not isinstance(raw, dict):
            return cls({}, {"": fault("teams: must be the teams by their names, like {growth: {slots: 4}}")})
        right: dict[str, Team] = {}
        faults: dict[str, SettingsError] = {}
        for name, values in raw.items():
            if not isinstance(name, str) or not TEAM_NAME.fullmatch(name):
                faults[str(name)] = fault(f"team name {name!r}: use a-z, 0-9, '-' and '_', at most 40 characters")
                continue
            try:
                right[name] = Team.model_validate(values)
            except ValidationError as error:
                faults[name] = fault(*all_faults(error, f"teams.{name}"))
        return cls(right, faults)

    def faults_of(self, name: Any) -> list[tuple[str, str]]:
        """What is wrong with a model's `team`, as (key, what): there is no such team, or it has a fault itself."""
        if not isinstance(name, str) or name in self.right:
            return []
        if broken := self.faults.get(name) or self.faults.get(""):
            return [("team", f"{name} has a fault: {broken.observation.split(NEXT_LINE)[0]}")]
        known = ", ".join(self.right) or "none: add it, like teams: {" + name + ": {slots: 4}}"
        return [("team", f"{name} is not among teams; they are {known}")]
