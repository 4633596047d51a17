"""The deployer's own check of an approval: a version goes live only as it was approved, byte by byte.

Nothing that a caller says counts: the deployer looks up the approval in the ledger, and computes each digest anew from what MLflow
and this machine hold. A package that was live before approval was required needs none: that is a way back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from pipeline.errors import RegistryAwayError, RegistryError
from pipeline.ledger.approval_events import Approved, OfVersion
from pipeline.ledger.approval_events import short_digest as _short
from pipeline.ledger.approvals import Standing, standing
from pipeline.ledger.chain import canonical
from pipeline.ledger.rollout_events import MOVES
from pipeline.registry import evidence as registry_evidence
from pipeline.registry.packages import package_digest
from pipeline.rollout import approved_image
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.refusals import another, by_unnamed, changed_since
from pipeline.rollout.refusals import refused as _refused
from pipeline.settings.rollout import EngineName
from pipeline.training.signing import MANIFEST


@dataclass(frozen=True)
class Evidence:
    """What is approved. `files` are the sha256 of the package's files by their path, with the manifest; `gate_report` is the sha256 of the
    version's gates.json, `image` that of the serving image or of what it is made of."""

    files: Mapping[str, str]
    data_version: str
    code_revision: str
    gate_report: str
    image: str

    @property
    def package(self) -> str:
        """The package's digest, as events of rollouts have it."""
        return self.files.get(MANIFEST, "")

    @property
    def parts(self) -> dict[str, str]:
        rest = {name: value for name, value in asdict(self).items() if name != "files"}
        return {"package": self.package, **rest}

    @property
    def digest(self) -> str:
        """sha256 of all of it, in hex."""
        return hashlib.sha256(canonical(self.as_dict()).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Reads `as_dict` back. Raises KeyError for a missing part."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})

    @classmethod
    def approved(cls, event: OfVersion) -> Self:
        """What the event names; a part that it lacks is '', which no version has."""
        parts = {name: event.parts.get(name, "") for name in cls.__dataclass_fields__ if name != "files"}
        return cls(files=event.files, **parts)

    def changes(self, approved: Evidence) -> list[str]:
        """What is otherwise than it was approved, a line for each part; none when all is the same."""
        lines = changed_files(self.files, approved.files)
        for name in ("data_version", "code_revision"):
            now, then = getattr(self, name), getattr(approved, name)
            if now != then:
                # Two that differ behind what a line shows are shown whole.
                shown = _short if _short(now) != _short(then) else str
                lines.append(f"{name.replace('_', ' ')}: is {shown(now)}, but {shown(then)} was approved")
        for name, what in (("gate_report", "gates.json"), ("image", "what serves")):
            now, then = getattr(self, name), getattr(approved, name)
            if now != then:
                lines.append(another(name.replace("_", " "), what, now, then))
        return lines


def changed_files(now: Mapping[str, str], approved: Mapping[str, str], where: str = "") -> list[str]:
    """A line for each file of the package that is not as it was approved."""
    lines = []
    for path in sorted({*now, *approved}):
        if now.get(path) == approved.get(path):
            continue
        if path not in now:
            observed = f"is gone, but was approved with digest {_short(approved[path])}"
        elif path not in approved:
            observed = "is in it, but was not approved"
        else:
            observed = f"has digest {_short(now[path])}, but {_short(approved[path])} was approved"
        lines.append(f"package: {path} {where}{observed}")
    return lines


def evidence(context: RolloutContext, model: str, version: str) -> Evidence:
    """What an approval of the version would name now. Raises RegistryError for a version that may not go live, or is damaged."""
    context.registry.deployable_package(model, version)
    return _found(context, model, version, context.image_digest)


def _found(context: RolloutContext, model: str, version: str, image_of: Callable[[str], str]) -> Evidence:
    found = registry_evidence.registered(context.registry, model, version)
    image = image_of(found.runtime)
    return Evidence(found.files, found.data_version, found.code_revision, found.gate_report, image)


def approved_package(context: RolloutContext, model: str, version: str, engine: EngineName = "auto") -> Path | None:
    """The folder of the package as it was approved; None where the model wants no approval. Raises RolloutError without one that holds.

    The image is the approved one also while another one serves the rest, when `engine` still has it (pipeline.rollout.approved_image).
    """
    if context.approvers(model) is None:
        return None
    held = standing(context.ledger, model, version)
    if held.asked is None and held.decided is None and (folder := _was_live(context, model, version)) is not None:
        return folder
    event = _approval(context, held, model, version)
    approved = Evidence.approved(event)
    try:
        if changed := _changes(context, approved, model, version, engine):
            raise changed_since(context, model, version, event.by, changed)
        folder = context.registry.deployable_package(model, version)
    except RegistryError as error:
        # What is gone or unsigned is no difference of two digests; the audit has that it was refused all the same.
        if not isinstance(error, RegistryAwayError):
            _refused(context, model, version, error.observation, error.next_check)
        raise
    if package_digest(folder) != approved.package:
        changed = [
            f"package: {MANIFEST} has digest {_short(package_digest(folder))}, but {_short(approved.package)} was approved"
        ]
        raise _refused(context, model, version, changed[0], f"`perennial approve {model} {version} --ask`", changed)
    return folder


def _was_live(context: RolloutContext, model: str, version: str) -> Path | None:
    """The version's package, when it was live already and nobody was ever asked about it."""
    digests = {e.event.digest for e in context.ledger.events(*MOVES, model=model) if e.event.version == version}
    if not digests:
        return None
    folder = context.registry.deployable_package(model, version)
    return folder if package_digest(folder) in digests else None


def _approval(context: RolloutContext, held: Standing, model: str, version: str) -> Approved:
    """The approval that stands. Raises RolloutError when there is none."""
    again = f"`perennial approve {model} {version} --ask` asks again"
    if held.approved is not None:
        event = held.approved.event
        if unnamed := by_unnamed(context, model, version, event.by):
            raise unnamed
        return event
    if rejected := held.rejected(context.clock()):
        raise _refused(context, model, version, rejected, again)
    why = f"is not approved, and models.{model}.approval is required"
    raise _refused(context, model, version, why, f"`perennial approve {model} {version}`, or approve it in Airflow")


def _changes(context: RolloutContext, approved: Evidence, model: str, version: str, engine: EngineName) -> list[str]:
    image_of = partial(approved_image.served_by, context, engine, approved=approved.image)
    changed = _found(context, model, version, image_of).changes(approved)
    damaged = registry_evidence.damaged_copy(context.registry, model, version)
    if damaged is not None and not changed:
        folder, files = damaged
        return changed_files(files, approved.files, f"in {folder} ") or [f"package: {folder} is not signed"]
    return changed
