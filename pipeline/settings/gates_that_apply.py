"""Is a key of `gates` stated where its gate looks at nothing? Who wrote a limit believes that it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.settings.section import Section
from pipeline.training import tasks

# The gates on probabilities, whose sections have their names.
ON_PROBABILITIES = ("calibration", "fairness")


def faults(model: Any) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) with the keys that say nothing in this block."""
    gates, task = model.gates, model.training.task
    yield from _of_the_supply_chain(gates.supply_chain)
    if not gates.own and "own_minutes" in _stated(gates):
        yield "gates.own_minutes", "is the time of your own gates: name one in gates.own"
    if tasks.TASKS[task].output == "number":
        yield from _of_numbers(gates, task)
        return
    fairness = gates.fairness
    if not fairness.columns:
        for name in [name for name in _stated(fairness) if name != "columns"]:
            yield f"gates.fairness.{name}", "compares no groups: name their columns in gates.fairness.columns"
    elif fairness.demographic_parity is None and fairness.equalised_odds is None:
        yield "gates.fairness.columns", "is compared by no measure: demographic_parity and equalised_odds are both null"
    if "threshold" in _stated(fairness) and task != "binary":
        yield (
            "gates.fairness.threshold",
            f"is for a binary task; the task is {task}, and the likeliest class is the decision",
        )


def _of_numbers(gates: Any, task: str) -> Iterator[tuple[str, str]]:
    for section in ON_PROBABILITIES:
        for name in _stated(getattr(gates, section)):
            if (section, name) != ("fairness", "columns"):
                yield f"gates.{section}.{name}", f"is for probabilities; the task is {task}: leave it out"
        if gates.modes.get(section) in ("on", "warn"):
            yield f"gates.modes.{section}", f"is for probabilities; the task is {task}: leave it out"


def _of_the_supply_chain(settings: Any) -> Iterator[tuple[str, str]]:
    database = settings.vulnerabilities
    if database is not None and "://" in database:
        yield (
            "gates.supply_chain.vulnerabilities",
            f"{database} is an address: download it, and name the file on this disk",
        )
    for name in ("accepted", "database_days", "only_fixed"):
        if database is None and getattr(settings, name):
            yield f"gates.supply_chain.{name}", "is for a database: name one in gates.supply_chain.vulnerabilities"


def _stated(section: Section) -> list[str]:
    """The keys of the section that params.yaml states."""
    return [name for name in type(section).model_fields if name in section.model_fields_set]
