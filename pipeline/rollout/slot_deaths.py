"""Notes in the ledger that a slot died: which version, of what, and what it printed last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.errors import RolloutError
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.rollout.engines.docker_events import ContainerDeath
from pipeline.settings.environment import Environment


@dataclass(frozen=True)
class Death:
    """`output` None is read from the engine when the death is noted; `container` and `at`, in seconds since 1970, say where."""

    model: str
    slot: str
    version: str
    engine: str
    cause: str
    output: str | None
    times: int
    container: str = ""
    at: float = 0.0

    @classmethod
    def of_container(cls, death: ContainerDeath, times: int) -> Death:
        return cls(
            death.model,
            death.slot,
            death.version,
            DockerEngine.name,
            death.cause,
            None,
            times,
            death.container,
            death.at,
        )


def is_noted(death: Death) -> bool:
    """Of a slot that dies again and again the 1st, 2nd, 4th, 8th … death is noted."""
    return death.times & (death.times - 1) == 0


def note(environment: Environment, deaths: list[Death]) -> None:
    """Appends a SlotDied for each. Raises LedgerError; what was appended before is then appended again at the next try.

    The ledger is imported here, because the process that watches slots stays small without it.
    """
    from pipeline.ledger.rollout_events import SlotDied
    from pipeline.ledger.store import Ledger

    ledger = Ledger(environment.ledger_url)
    for death in deaths:
        output = _output(environment, death) if death.output is None else death.output
        died = SlotDied(
            version=death.version,
            slot=death.slot,
            engine=death.engine,
            cause=death.cause,
            output=output,
            times=death.times,
        )
        ledger.append(died, death.model)


def _output(environment: Environment, death: Death) -> str:
    """The last lines that the container printed before it died; '' when it is gone."""
    try:
        engine = DockerEngine(EngineSettings.of(environment), prepare=False)
        return engine.output_until(death.container, datetime.fromtimestamp(death.at, UTC))
    except (EngineUnavailable, RolloutError):
        return ""
