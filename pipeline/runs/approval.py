"""Approval of a version: asked for by a run or a person, given or refused by another one, through Airflow or by command.

All three come here, so that one rule says who may approve. What the approval names is computed by the deployer, which compares it
again before the version goes live (pipeline.rollout.approval).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.errors import PerennialError, RolloutError
from pipeline.ledger.approval_events import AIRFLOW, COMMAND, TIME, ApprovalAsked, Approved, Rejected
from pipeline.ledger.approvals import askers, registered, same_person, standing
from pipeline.ledger.store import Entry, Ledger
from pipeline.rollout.approval import Evidence
from pipeline.rollout.refusals import not_named

log = logging.getLogger(__name__)

SHARED_NAME = "asked for and approved under one name, because users are not known here"
UNKNOWN = "users are not known where it was approved, so it may be the person who asked"


@dataclass(frozen=True)
class Person:
    """Who decides, and through what. Where users are not `known`, a name may be that of several people."""

    name: str
    through: str = COMMAND
    known: bool = False

    @classmethod
    def at_the_command_line(cls, context: Context) -> Person:
        """Known where $PERENNIAL_USER names the person: several may share an account of the machine."""
        return cls(context.asked_by, COMMAND, context.environment.user_is_named)


def required(context: Context, name: str) -> bool:
    """Whether `approval` of the model is required. Raises SettingsError for an unknown or broken block."""
    return context.params.model(name).approval == "required"


def holds(context: Context, name: str, version: str) -> bool:
    """Whether the version is approved as it is now."""
    approved = standing(context.ledger, name, version).approved
    return approved is not None and approved.event.digest == traffic(context).evidence(name, version).digest


def ask(context: Context, run: str, name: str, version: str, through: str = COMMAND) -> Entry[ApprovalAsked]:
    """Asks for approval of the version as it is now. Raises RegistryError for a version that may not go live."""
    found = _evidence(context, name, version)
    until = context.clock() + timedelta(hours=context.params.model(name).approval_hours)
    asked = ApprovalAsked(
        version=version,
        digest=found.digest,
        parts=found.parts,
        files=found.files,
        until=until.isoformat(timespec="seconds"),
        asked_by=context.asked_by or None,
        through=through,
    )
    return context.ledger.append(asked, name, run, "approve")


def approve(context: Context, run: str, name: str, version: str, person: Person, reason: str = "") -> Entry[Approved]:
    """Approves the version as it is now, which must be as it was when it was asked for. The same approval is not written twice.

    Raises RolloutError for a version that was rejected or has changed, for the person who asked for it or started its run, and for one whom
    `approval_by` does not name. Names are the same in any spelling (`same_person`).
    """
    held = standing(context.ledger, name, version)
    subject = f"version {version} of {name}"
    again = f"ask again: `perennial approve {name} {version} --ask`"
    if rejected := held.rejected(context.clock()):
        raise RolloutError(subject, rejected, again)
    if not person.name.strip():
        raise RolloutError(
            subject, "may not be approved without a name", "name the person: $PERENNIAL_USER, or a user in Airflow"
        )
    named = context.params.model(name).approval_by
    if named and person.name not in named:
        raise RolloutError(
            subject, f"may not be approved by {person.name}, {not_named(name, named)}", "let one of them decide"
        )
    if own := next((each for each in askers(context.ledger, name, version) if same_person(each, person.name)), ""):
        _refuse_asker(context, name, subject, person, own)
    found = _evidence(context, name, version)
    if held.asked is not None and (changed := found.changes(Evidence.approved(held.asked.event))):
        raise RolloutError(subject, f"changed since it was asked for: {'; '.join(changed)}", again)
    before = held.approved
    # That of a person who is named no more counts for nobody.
    if before is not None and before.event.digest == found.digest and (not named or before.event.by in named):
        return before
    approved = Approved(
        version=version,
        digest=found.digest,
        parts=found.parts,
        files=found.files,
        by=person.name,
        through=person.through,
        reason=reason,
        note="" if person.known else SHARED_NAME if own else UNKNOWN,
    )
    entry = context.ledger.append(approved, name, run, "approve")
    _anchor(context, name, version, entry)
    # Somebody may have rejected it while the deployer looked at the version.
    if rejected := standing(context.ledger, name, version).rejected(context.clock()):
        raise RolloutError(subject, rejected, again)
    return entry


def _refuse_asker(context: Context, name: str, subject: str, person: Person, asked_by: str) -> None:
    """Raises RolloutError for the person who asked, or started the run, where people are known by their names."""
    if not person.known:
        return
    named = context.params.model(name).approval_by
    others = ", ".join(each for each in named if not same_person(each, asked_by))
    check = f"let {others or 'another person'} decide"
    if named and not others:
        check = f"name another person in models.{name}.approval_by"
    also = "" if person.name == asked_by else f", nor as {person.name!r}"
    raise RolloutError(subject, f"was asked for by {asked_by}, who may not approve it{also}", check)


def reject(context: Context, run: str, name: str, version: str, person: Person, reason: str = "") -> Entry[Rejected]:
    """Rejects the version, which ends an approval too. Raises RolloutError for a version that was never registered."""
    _registered(context, name, version)
    rejected = Rejected(version=version, by=person.name, through=person.through, reason=reason)
    return context.ledger.append(rejected, name, run, "approve")


def rejected_since_asked(ledger: Ledger, name: str, version: str, run: str) -> str:
    """The rejection of the version, where this run is the one that asked last; '' where nobody has rejected it or another asked."""
    held = standing(ledger, name, version)
    if held.asked is None or held.decided is None or held.asked.run != run or isinstance(held.decided.event, Approved):
        return ""
    return held.decided.event.sentence()


def answered(context: Context, run: str, name: str, version: str, approved: bool, by: str, known: bool) -> str:
    """Writes down what Airflow was answered, and returns it in a sentence. `by` is '' when the time was over.

    A decision that was made at the command line meanwhile is the one that counts, and so is the time of a question that was asked there
    since. Raises as `approve`.
    """
    held = standing(context.ledger, name, version)
    if held.decided is not None:
        return held.decided.event.sentence()
    if approved:
        return approve(context, run, name, version, Person(by, AIRFLOW, known)).event.sentence()
    if by:
        return reject(context, run, name, version, Person(by, AIRFLOW, known), "in Airflow").event.sentence()
    if held.asked is not None and not held.rejected(context.clock()):
        return f"version {version} was asked for again, until {held.asked.event.until}; this run does not wait for that"
    hours = f"nobody answered within {context.params.model(name).approval_hours:g} hours (approval_hours)"
    return reject(context, run, name, version, Person("", TIME), hours).event.sentence()


def _evidence(context: Context, name: str, version: str) -> Evidence:
    """What the deployer sees. Raises RolloutError where MLflow and the ledger do not name the same data and code."""
    found = traffic(context).evidence(name, version)
    entry = _registered(context, name, version)
    for what, here, there in (
        ("data version", found.data_version, entry.event.data_version),
        ("code revision", found.code_revision, entry.event.code_revision),
    ):
        if there and here != there:
            observed = f"its {what} in MLflow is {here or 'none'}, and it was registered with {there}"
            raise RolloutError(f"version {version} of {name}", observed, "look at who changed its tags in MLflow")
    return found


def _registered(context: Context, name: str, version: str) -> Entry:
    entry = registered(context.ledger, name, version)
    if entry is None:
        observed = "was registered by no run of this ledger"
        raise RolloutError(f"version {version} of {name}", observed, f"`perennial timeline {name}` lists the versions")
    return entry


def _anchor(context: Context, name: str, version: str, entry: Entry) -> None:
    """Writes the ledger's head into the version's tags, so that an approval cannot be cut off unseen. An error ends nothing."""
    try:
        context.registry.anchor(name, version, entry.head)
    except PerennialError as error:
        log.warning("%s", error)
