"""What the gate `supply_chain` says of some packages: how many findings stop, in which words, and what of a database it went by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.gates.known_vulnerabilities import Searched, Vulnerable
from pipeline.settings.model_gates import SupplyChain

NAMED = 5


@dataclass(frozen=True)
class Looked:
    """`words` are the parts of the reason, `count` the findings that stop; `stops` is whether something else does, such as an old database.
    `vulnerable` are the findings by package, `unlicensed` the packages with a licence that is not allowed."""

    words: tuple[str, ...] = ()
    count: int = 0
    stops: bool = False
    vulnerable: dict[str, list[str]] = field(default_factory=dict)
    unlicensed: tuple[str, ...] = ()


def few(found: Sequence[Any], between: str = "; ") -> str:
    """The first of them by name, and how many more there are; `none` for none."""
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return (between.join(map(str, found[:NAMED])) or "none") + more


def looked(searched: Searched, settings: SupplyChain, called: str, of: str) -> Looked:
    """By the records of one ecosystem, `of`; `called` is what the list of its vulnerabilities begins with."""
    known = [each for each in searched.found if not each.is_accepted(settings.accepted)]
    important = [each for each in known if not each.unimportant]
    stopping = [each for each in important if each.fixed or not settings.only_fixed]
    words = [f"{called}: {few(stopping)}"]
    if unfixed := len(important) - len(stopping):
        words.append(f"{unfixed} without a fix yet, which stop nothing (gates.supply_chain.only_fixed)")
    if unimportant := len(known) - len(important):
        words.append(f"left out: {unimportant} that its distribution calls unimportant")
    age, expired = _age(searched, settings, of)
    return Looked((*words, f"{age}{expired}"), len(stopping), bool(expired), by_package(stopping))


def by_package(found: Iterable[Vulnerable]) -> dict[str, list[str]]:
    """Installed package to the first id of each vulnerability that it has."""
    of: dict[str, list[str]] = {}
    for each in found:
        for name in each.package.of:
            of.setdefault(name, []).append(each.ids[0])
    return of


def _age(searched: Searched, settings: SupplyChain, of: str) -> tuple[str, str]:
    """(how new the records are, why they are too old or '')."""
    count, at, days = searched.records, searched.newest, settings.database_days
    age = f"{count:,} record{'s' if count != 1 else ''} of {of}" + (
        f", the newest of {at:%Y-%m-%d}" if at else ", none of which says when it changed"
    )
    if days is None or (at is not None and at >= datetime.now(UTC) - timedelta(days=days)):
        return age, ""
    limit = f"at most {days:g} days old (gates.supply_chain.database_days)"
    return age, f": too old to tell, it must be {limit}; download a newer export"
