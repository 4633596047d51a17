"""Which version of which model is live where: the route names it, the slot confirms it, the ledger dates it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.context import Context
from pipeline.data.label_delay import LabelDelay
from pipeline.deployer.asking import DEADLINE_S, Answers, ask
from pipeline.deployer.model_status import (
    CandidateStatus,
    LiveStatus,
    ModelStatus,
    PredecessorStatus,
    TrafficShare,
)
from pipeline.errors import RegistryError, RolloutError
from pipeline.ledger import label_delays
from pipeline.ledger.events import DriftChecked, IntervalScored
from pipeline.ledger.newest_looks import newest_looks
from pipeline.ledger.package_of_version import PackageOfVersion
from pipeline.ledger.rollout_events import MOVES, EvidenceNeeded, RolledBack, RolloutHolding, RolloutStarted, RouteMoved
from pipeline.ledger.store import Ledger
from pipeline.ledger.timeline import live_at, live_models, trusted_predecessor
from pipeline.policy.freeze import all_frozen
from pipeline.registry.held import Reader
from pipeline.registry.versions import Registry, own_store
from pipeline.reliability.judging import burning_now
from pipeline.rollout import registry_agreement
from pipeline.rollout.opened import is_recorded, open_rollout
from pipeline.rollout.prediction_folders import predictions_folder
from pipeline.rollout.recorded import is_outdated, recorded_settings
from pipeline.rollout.routing import foreign_files, route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.services import processes
from pipeline.serving import log_files
from pipeline.settings.addresses import services_of

# Traefik reads a changed route file after a tenth of a second.
FOLLOWS_S = 0.3
ROUTER_AWAY = "the router does not answer"


def models_status(context: Context, model: str = "") -> list[ModelStatus]:
    """The status of one model; '' means all models of params.yaml, those with a broken block too, and all that are live without one.

    Raises SettingsError for a name that neither params.yaml nor the ledger has.
    """
    if model and model not in context.params.broken and not context.ledger.last(*MOVES, model=model):
        context.params.model(model)
    registry, ledger = _registry(context), context.ledger
    names = [model] if model else known_models(context)
    looked = _look(context, names)
    with ledger.reading(names):
        delays, scored = label_delays.newest_of(ledger, names), _newest_scored(ledger, names)
        unknown = _without_verdict(ledger, names)
        frozen = all_frozen(ledger, context.params.models, names, context.clock())
        burning = burning_now(ledger)
        found = [
            replace(
                _one(context, name, looked, delays.get(name), scored.get(name), unknown.get(name)),
                frozen=frozen.get(name),
                burning=burning.get(name),
            )
            for name in names
        ]
        return [_with_registry(ledger, status, registry) for status in found]


@dataclass(frozen=True)
class _Looked:
    """The routes by model, why others cannot be read, and what answers."""

    routes: Mapping[str, Route]
    unreadable: Mapping[str, str]
    answers: Answers


def _look(context: Context, names: Sequence[str]) -> _Looked:
    routes, unreadable = {}, {}
    for name in names:
        try:
            if (route := route_file.read(context.home, name)) is not None:
                routes[name] = route
        except RolloutError as error:
            unreadable[name] = str(error)
    return _Looked(routes, unreadable, ask(context.environment.router_addresses.url, routes))


def _one(
    context: Context, name: str, looked: _Looked, delay: LabelDelay | None, scored: str | None, no_verdict: str | None
) -> ModelStatus:
    """All but what MLflow says of it."""
    about = delay.as_dict() if delay is not None else None
    log = log_line(context.home, name)
    status = _model_status(context, name, looked)
    return replace(status, log=log, label_delay_s=about, scored=scored, no_verdict=no_verdict)


def _with_registry(ledger: Ledger, status: ModelStatus, registry: _Asked) -> ModelStatus:
    live = live_at(ledger, status.model) if status.live is not None else None
    return replace(status, registry=registry.lines(status.model, live.package)) if live is not None else status


def _newest_scored(ledger: Ledger, names: Sequence[str]) -> dict[str, str]:
    """By model the newest interval of `scoring`, of the last ten that came to its destination, and what that cost."""
    newest: dict[str, IntervalScored] = {}
    for entry in ledger.newest(IntervalScored, models=names, count=10):
        known = newest.get(entry.model)
        if known is None or entry.event.interval_end >= known.interval_end:
            newest[entry.model] = entry.event
    return {name: f"{event.sentence()}; {event.cost:.6f} {event.currency}" for name, event in newest.items()}


def _without_verdict(ledger: Ledger, names: Sequence[str]) -> dict[str, str]:
    """By model that its newest drift check came to no verdict, and why; without those that had one, or had no check."""
    newest = {name: entry.event for name, entry in newest_looks(ledger, DriftChecked, names).items()}
    return {
        name: f"no verdict on drift as of {checked.as_of[:16]}, so nobody knows whether it drifts: {checked.reason}"
        for name, checked in newest.items()
        if checked.verdict == "no verdict"
    }


def _registry(context: Context) -> _Asked:
    """MLflow; the store of this machine is read from its file, whoever serves it: a server takes each question by itself."""
    registry, served = context.registry, services_of(context.home).get("mlflow", "")
    if registry.uri.rstrip("/") == served.rstrip("/") and processes.supervisor(context.home) is not None:
        registry = replace(registry, uri=own_store(context.home))
    return _Asked(registry)


@dataclass
class _Asked:
    """An MLflow that is asked for no further model once it has not answered; `away` is the line that says so."""

    registry: Registry
    away: str = ""
    reader: Reader | None = None

    def lines(self, model: str, live: PackageOfVersion) -> tuple[str, ...]:
        """What of the model does not agree in MLflow."""
        if not self.away:
            try:
                self.reader = self.reader or self.registry.reader()
                held = self.registry.held(model, live.version, live.digest, self.reader)
                return tuple(registry_agreement.lines(model, live.version, held, self.registry.uri))
            except RegistryError as error:
                self.away = registry_agreement.away(error)
        return (self.away,)


def faults(context: Context) -> list[str]:
    """What is wrong and no model's own: in params.yaml, services that are down, and foreign files that lay in routes/."""
    params = context.params
    found = (*params.faults.values(), *params.teams.faults.values(), *params.notices.faults.values())
    lines = [str(fault) for fault in found]
    return [*lines, *processes.trouble(context.home), *filter(None, [foreign_files.were_set_aside(context.home)])]


def known_models(context: Context) -> list[str]:
    """The models of params.yaml, those with a broken block too, and those that are live without a block."""
    params = context.params
    named = [*params.models, *params.broken]
    live = {*live_models(context.ledger), *route_file.routed_models(context.home)}
    return [*named, *sorted(live - set(named))]


def _model_status(context: Context, name: str, looked: _Looked) -> ModelStatus:
    params = context.params
    if name in params.models:
        model = params.models[name]
        return replace(_route_status(context, name, looked, model.description), limits_off=model.rollout.limits.off)
    fault = params.broken.get(name) or params.no_models
    if fault is not None:
        return replace(_route_status(context, name, looked), fault=str(fault))
    return replace(_route_status(context, name, looked), note=_without_a_block(context, name))


def _route_status(context: Context, name: str, looked: _Looked, description: str = "") -> ModelStatus:
    address = f"{context.environment.router_addresses.public_url}/{name}/invocations"
    if name in looked.unreadable:
        return ModelStatus(name, description, address, problem=looked.unreadable[name])
    if name not in looked.routes:
        return ModelStatus(name, description, address)
    current = looked.routes[name]
    last = live_at(context.ledger, name)
    live_since = last.since if last is not None else None
    since = _moved_at(context, name) or live_since
    why_not = _why_no_answer(f"{context.environment.router_addresses.url}/{name}", current, looked.answers)
    live = LiveStatus(
        current.live.version,
        current.live.slot,
        since=live_since,
        answers=why_not is None,
        ledger_agrees=is_recorded(context.ledger, name, current.live),
        why_not=why_not,
        what_helps=_what_helps(why_not, context.server_mode) if why_not is not None else None,
    )
    opened = open_rollout(context.ledger, name)
    going_on = opened is not None and isinstance(opened.event, RolloutStarted)
    moved = going_on and opened is not None and opened.event.version == current.live.version
    baking = current.candidate or (current.live if moved else None)
    before = trusted_predecessor(context.ledger, name, current.live.package)
    reversible = opened is not None or before is not None
    return ModelStatus(
        name,
        description,
        address,
        live,
        _predecessor_status(current.previous, looked.answers),
        _candidate_status(current, since, looked.answers),
        tuple(TrafficShare(version, percent, since) for version, percent in current.shares.items()),
        undo=f"rollback {name}" if reversible else None,
        baking=baking.version if baking is not None else None,
        holds=_hold_reason(context, name, opened.seq) if opened is not None else None,
        evidence=_evidence_needed(context, name, opened.seq) if going_on and opened is not None else None,
        note=_settings_note(context, name, current) if name in context.params.models else None,
    )


def log_line(home: Path, name: str) -> str | None:
    """That files of the model's prediction log are damaged, or that it cannot be read; None when all is well."""
    try:
        damaged = [
            path
            for shadow in (False, True)
            for path in log_files.listed(predictions_folder(home, name, shadow)).damaged
        ]
    except OSError as error:
        return f"the prediction log cannot be read ({error})"
    if not damaged:
        return None
    return (
        f"damaged files of the prediction log: {len(damaged)}, whose rows no check sees; restore them from a backup, or "
        f"delete them: {damaged[-1]}{' and others' if len(damaged) > 1 else ''}"
    )


def _without_a_block(context: Context, name: str) -> str:
    """Why a model is shown that params.yaml does not have, with which settings it is started again, and how to end it."""
    recorded = recorded_settings(context.ledger, name) is not None
    restart = (
        "it is started again with the settings it went live with" if recorded else "its slots are not started again"
    )
    return f"no block in params.yaml: {restart}; `perennial undeploy {name}` ends it"


def _settings_note(context: Context, name: str, current: Route) -> str | None:
    """That slots of the route run with other settings than the block's; None when all run with those."""
    model = context.params.model(name)
    outdated = [
        f"version {routed.version} in {routed.slot}"
        for routed in (current.live, current.previous, current.candidate)
        if routed is not None and is_outdated(context.ledger, name, routed, model.rollout, model.columns)
    ]
    if not outdated:
        return None
    return (
        f"{' and '.join(outdated)} run{'s' if len(outdated) == 1 else ''} with other settings than rollout.serving; "
        f"`perennial deploy {name} {current.live.version}` applies them"
    )


def _predecessor_status(routed: RoutedSlot | None, answers: Answers) -> PredecessorStatus | None:
    return PredecessorStatus(routed.version, routed.slot, answers.answers(routed)) if routed is not None else None


def _candidate_status(current: Route, since: str | None, answers: Answers) -> CandidateStatus | None:
    candidate = current.candidate
    if candidate is None:
        return None
    return CandidateStatus(
        candidate.version,
        candidate.slot,
        current.percent,
        current.mirror,
        since,
        answers.answers(candidate),
        current.follow or None,
    )


def _answers(routed: RoutedSlot) -> bool:
    from pipeline.rollout import probe

    return probe.answering_version(routed.address, timeout_s=1) == routed.version


def _what_helps(why_not: str, on_server: bool) -> str:
    """The command: `reconcile` starts slots and writes routes, but no router."""
    if why_not != ROUTER_AWAY:
        return "reconcile"
    return "docker compose up -d" if on_server else "make up"


def _why_no_answer(address: str, current: Route, answers: Answers) -> str | None:
    """Why the live version does not answer at the model's address; None when it does.

    A slot that is asked by itself would also answer while the router does not know the model.
    """
    asked = answers.at(address)
    if asked.late:
        return f"it gave no answer within {DEADLINE_S:g} s"
    code, version, stamp = asked.code, asked.version, asked.stamp
    if code == 200 and stamp != current.stamp:
        # The route may have been moved this very moment.
        from pipeline.rollout import probe

        time.sleep(FOLLOWS_S)
        code, version, stamp = probe.through_router(address)
    if code == 0:
        return ROUTER_AWAY
    if code == 200 and stamp != current.stamp:
        return "the router does not follow the route file"
    if code == 200 and (version == current.live.version or _answers(current.live)):
        return None
    if code == 200:
        return f"version {version} answers in its place"
    return f"the router says {code}"


def _moved_at(context: Context, name: str) -> str | None:
    moves = context.ledger.last(RouteMoved, RolledBack, model=name)
    return moves[-1].at if moves else None


def _evidence_needed(context: Context, name: str, since: int) -> str | None:
    """What the step that is going on needs, as it was said before it; None when nothing was."""
    entries = context.ledger.events(EvidenceNeeded, model=name, after=since)
    return entries[-1].event.sentence() if entries else None


def _hold_reason(context: Context, name: str, since: int) -> str | None:
    """The reason for which the step that is going on is held, as the newest event says it; None when it is not held."""
    entries = context.ledger.events(RolloutHolding, RouteMoved, model=name, after=since)
    last = entries[-1].event if entries else None
    return last.reason if isinstance(last, RolloutHolding) else None
