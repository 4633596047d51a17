"""Which serving image a version starts from: the very one that was approved with it, where the engine still has it.

So an update of the server ends no approval while the image of before is there. A slot that is to get traffic (a deploy, a way back, a
predecessor that is kept warm) starts from no other. What is live is started again in any case, because that is no release: where it is by
another image, log and ledger say so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline.ledger.approval_events import OtherImage
from pipeline.ledger.approvals import approval_of_package, standing
from pipeline.ledger.rollout_events import SlotReady
from pipeline.ledger.store import Entry
from pipeline.rollout import refusals
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.engines.base import Engine
from pipeline.rollout.routing.route import RoutedSlot
from pipeline.settings.rollout import EngineName

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageToStart:
    """`image` is the approved one that this installation does not serve by any more, '' for the one that it serves by now.

    `other` is to be written down once the slot runs, when it runs by another image than the approved one.
    """

    image: str = ""
    approved: str = ""
    now: str = ""
    other: str = ""


def served_by(context: RolloutContext, engine_name: EngineName, runtime: str, approved: str) -> str:
    """The digest of what the version would be served by: the approved image where it is there, else what serves now."""
    now = context.image_digest(runtime)
    if approved in ("", now):
        return now
    # Not the engine that a slot would get: to select it may build the image of now, which nobody has asked for yet.
    engines = [engine for engine in context.engines.all() if engine_name in ("auto", engine.name)]
    return approved if any(engine.has_image(runtime, approved) for engine in engines) else now


def to_start(
    context: RolloutContext, engine: Engine, model: str, version: str, package: str, runtime: str, *, goes_on: bool
) -> ImageToStart:
    """The image for a slot with this package of the version.

    Raises RolloutError when the engine no longer has the approved one, and for a version that people have rejected since; not for what
    `goes_on`, which is live.
    """
    if context.approvers(model) is None:
        return ImageToStart()
    event = approval_of_package(context.ledger, model, version, package)
    held = standing(context.ledger, model, version)
    if not goes_on and (no := refusals.by_people(context, model, version, held, event.by if event is not None else "")):
        raise no
    approved, now = event.parts.get("image", "") if event is not None else "", context.image_digest(runtime)
    if event is None or approved in ("", now):
        return ImageToStart()
    if engine.has_image(runtime, approved):
        log.info("%s: version %s starts from the image that was approved with it, %s", model, version, approved)
        return ImageToStart(approved, approved, now)
    gone = f"the {engine.name} engine does not have that one"
    if goes_on:
        return ImageToStart("", approved, now, gone)
    line = f"{refusals.another('image', 'what serves', now, approved)}, and {gone}"
    raise refusals.changed_since(context, model, version, event.by, [line])


def note_other(context: RolloutContext, model: str, version: str, slot: str, start: ImageToStart) -> None:
    """Writes down that what is live runs by another image than the approved one; does nothing when it does not."""
    if not start.other:
        return
    event = OtherImage(version=version, slot=slot, approved=start.approved, image=start.now, why=start.other)
    context.ledger.append(event, model, context.run, "roll_out")
    log.warning("%s: %s", model, event.sentence())


def is_other(context: RolloutContext, model: str, routed: RoutedSlot) -> bool:
    """Whether a slot that people approve runs by another image than the approved one, by what the ledger said of it last."""
    if context.approvers(model) is None:
        return False
    said: list[Entry[SlotReady | OtherImage]] = context.ledger.events(SlotReady, OtherImage, model=model)
    last = next((entry.event for entry in reversed(said) if entry.event.slot == routed.slot), None)
    return isinstance(last, OtherImage) and last.version == routed.version
