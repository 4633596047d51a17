"""Notes in the ledger that a slot died: which version, of what, and what it printed last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.errors import RolloutError
from pipeline.rollout.engines import serving_recipe
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.rollout.engines.docker_events import ContainerDeath
from pipeline.rollout.engines.process import ProcessEngine
from pipeline.settings.environment import Environment

if TYPE_CHECKING:
    from pipeline.ledger.store import Ledger


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
        if death.engine == ProcessEngine.name:
            _note_image(environment, ledger, death)


def _note_image(environment: Environment, ledger: Ledger, death: Death) -> None:
    """A process that is started again runs the code of now: where that is not what was approved, the ledger says so."""
    from pipeline.ledger.approval_events import OtherImage
    from pipeline.ledger.approvals import approval_of_package
    from pipeline.rollout.routing import route_file

    try:
        route = route_file.read(environment.home, death.model)
    except RolloutError:
        return
    if route is None or death.slot not in (named := {slot.slot: slot for slot in (route.live, route.previous) if slot}):
        return
    routed = named[death.slot]
    approval = approval_of_package(ledger, death.model, routed.version, routed.digest)
    approved = approval.parts.get("image", "") if approval is not None else ""
    settings = EngineSettings(environment.home, environment.project)
    now = {serving_recipe.image_digest(settings, runtime) for runtime in serving_recipe.PACKAGES}
    if not approved or approved in now:
        return
    why = "its process died and was started again, by the code of now"
    event = OtherImage(version=routed.version, slot=death.slot, approved=approved, image=sorted(now)[0], why=why)
    ledger.append(event if routed == route.live else replace(event, warm=True), death.model)


def _output(environment: Environment, death: Death) -> str:
    """The last lines that the container printed before it died; '' when it is gone."""
    try:
        engine = DockerEngine(EngineSettings.of(environment), prepare=False)
        return engine.output_until(death.container, datetime.fromtimestamp(death.at, UTC))
    except (EngineUnavailable, RolloutError):
        return ""
