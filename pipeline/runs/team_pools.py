"""Airflow's pools for the teams of params.yaml: which there should be, and what has to change. Nothing is touched here.

The description of a pool that we made begins with MARK. One that somebody made by hand is never changed or removed, whatever its
name. A pool of ours goes with its team, but not while a Dag or a task that has not ended names it, because Airflow never starts a task
whose pool is missing. For the same reason a pool that Dags name and no team has, of a block that broke when its team went, is there
with FEWEST slots.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.context import Context
from pipeline.runs.dag_settings import dag_settings
from pipeline.settings.teams import Team, pool_of

MARK = "Perennial:"
FEWEST = 1


@dataclass(frozen=True)
class Pool:
    """A pool as Airflow has it, or shall have it."""

    name: str
    slots: int
    description: str

    @property
    def is_ours(self) -> bool:
        return self.description.startswith(MARK)


@dataclass(frozen=True)
class Wanted:
    """`teams` by name; `named` are the pools that Dags name, `unknown` those of teams whose settings have a fault now.

    `readable` says whether it is known which teams there are; while it is not, no pool is removed.
    """

    teams: Mapping[str, Team]
    named: Collection[str]
    unknown: Collection[str] = ()
    readable: bool = True


@dataclass(frozen=True)
class Change:
    """`pool` is made, set to what it says here, or removed; or it is left as it is, because somebody made it by hand."""

    what: Literal["make", "set", "remove", "leave"]
    pool: Pool

    def __str__(self) -> str:
        subject, slots = f"pool {self.pool.name}", self.pool.slots
        if self.what == "leave":
            return f"{subject}: was made by hand and keeps its slots, not {slots}; remove it (Admin, Pools) and it is made anew"
        if self.what == "remove":
            return f"{subject}: removed, as its team is gone from params.yaml"
        return f"{subject}: {'made' if self.what == 'make' else 'set'}, with {slots} slot{'s' * (slots != 1)}"


def wanted(context: Context) -> Wanted:
    """What params.yaml and the Dags that were made from it ask for."""
    named = {settings.pool for settings in dag_settings(context).values() if settings.pool}
    teams, params = context.params.teams, context.params
    readable = "" not in params.faults and "" not in teams.faults
    return Wanted(teams.right, named, {pool_of(name) for name in teams.faults if name}, readable)


def changes(asked: Wanted, there: Collection[Pool], waiting: Callable[[], Collection[str]]) -> list[Change]:
    """What makes the pools that are `there` agree; `waiting` gives the pools of tasks that have not ended, and is asked when needed."""
    have = {pool.name: pool for pool in there}
    right = {pool_of(name): _pool(name, team) for name, team in asked.teams.items()}
    found = []
    for name, pool in right.items():
        known = have.get(name)
        if known is None:
            found.append(Change("make", pool))
        elif known.is_ours and known != pool:
            found.append(Change("set", pool))
        elif known.slots != pool.slots:
            found.append(Change("leave", pool))
    for name in sorted({*asked.named} - {*right} - {*have}):
        found.append(Change("make", Pool(name, FEWEST, f"{MARK} its team is not right in params.yaml")))
    stay = {*right, *asked.named, *asked.unknown}
    gone = [pool for pool in there if pool.is_ours and pool.name not in stay] if asked.readable else []
    if gone:
        in_use = waiting()
        found += [Change("remove", pool) for pool in gone if pool.name not in in_use]
    return found


def _pool(name: str, team: Team) -> Pool:
    about = f"{team.description}; " if team.description else ""
    return Pool(pool_of(name), team.slots, f"{MARK} {about}slots of teams.{name} in params.yaml, change them there")
