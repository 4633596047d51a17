"""The commands: each takes its arguments, does its work through another folder, and returns an Answer.

Each imports what it needs when it runs: dvc.yaml starts a process for each stage.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.cli.outputs import PAGE, refuse, write, writing
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.context import Context


@dataclass(frozen=True)
class Answer:
    """`text` for a person, `values` (dicts, lists and plain values) for --json."""

    text: str
    values: Any = None
    exit_code: int = 0


def context_of_a_person() -> Context:
    """The context in which the ledger says who asked: PERENNIAL_USER, else the user of the system."""
    from pipeline.context import Context

    context = Context.here()
    return replace(context, asked_by=context.environment.user)


def known_model(context: Context, model: str | None, past: bool = False) -> str:
    """The model's name, or '' for all models. Raises SettingsError for a name that neither params.yaml nor the ledger has.

    A model whose block is broken or gone is known as long as the ledger says that it was live: it can be seen, rolled back and ended. Where
    the `past` is asked for, one that was renamed or removed before it was live is known too: what it cost is in the sum of all.
    """
    from pipeline.ledger.rollout_events import MOVES

    if not model or model in context.params.broken or context.ledger.last(*MOVES, model=model):
        return model or ""
    if not past or model not in context.ledger.models():
        context.params.model(model)
    return model


def as_of_look(context: Context, as_of: datetime | None) -> datetime:
    """The as-of of a look, now without one. Raises SettingsError for a day to come: nobody knows yet what will be known then."""
    now = context.clock()
    if as_of is not None and as_of > now + timedelta(days=1):
        raise SettingsError(f"--as-of {as_of:%Y-%m-%d %H:%M}", "is a day to come", "leave it out for now")
    return as_of or now


def stage(arguments: argparse.Namespace) -> Answer:
    """Runs one stage in the current folder: what each stage of dvc.yaml calls."""
    from pipeline.runs import stages

    return Answer(stages.run(arguments.stage, arguments.model))


def init(arguments: argparse.Namespace) -> Answer:
    """Drafts a model's block from its data and writes it into params.yaml; with --dry-run it only shows the block."""
    from pipeline.cli import tables
    from pipeline.init.request import Request
    from pipeline.init.run import init as make_block
    from pipeline.settings.environment import Environment

    asked = {key: value for key, value in vars(arguments).items() if key in Request.__dataclass_fields__}
    result = make_block(Request(**asked), Environment.read().project, arguments.dry_run)
    return Answer(tables.init(result), result.as_dict())


def retrain(arguments: argparse.Namespace) -> Answer:
    """Runs all stages and registers the version; with --deploy it goes live, unless the model asks for an approval first.

    A freeze stops no run that a person asks for: it is said on standard error.
    """
    from pipeline.runs.freeze import frozen
    from pipeline.runs.retrain import retrain
    from pipeline.workspaces import stage_server

    context, model = context_of_a_person(), arguments.model
    settings = context.params.model_of_a_run(model)
    as_of = arguments.as_of or settings.as_of
    if why := frozen(context, model):
        print(f"{model} is {why}; you asked for this run, so it goes on", file=sys.stderr)
    if arguments.deploy and settings.approval == "none":
        _start_router(context)
    run = f"cli/{model}/{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    with stage_server.running(at_once=True):
        accept = arguments.accept_schema_change
        result = retrain(context, run, model, as_of, arguments.reason, arguments.deploy, accept)
    settled = result.settled
    text = f"{settled.outcome}, for {settled.cost:.4f} {settled.currency} (run {run})"
    if result.waits:
        then = f"perennial approve {model} {result.version}`, then `perennial deploy {model} {result.version}"
        text += f"; next: `{then}`"
    return Answer(text, result.as_dict())


def _start_router(context: Context) -> None:
    """Starts the services of this machine when no router answers, because a version is to go live on it."""
    from pipeline.errors import RolloutError
    from pipeline.rollout.context import check_router
    from pipeline.services import control

    if context.environment.deployer or control.running(context.home):
        return
    try:
        check_router(context.rollout("cli/router"))
    except RolloutError:
        print(
            "no router answers here, so the services are started as `make up` does; `make down` ends them",
            file=sys.stderr,
        )
        control.up(context.project, context.home, lambda line: print(line, file=sys.stderr), wait_for_all=False)


def reproduce(arguments: argparse.Namespace) -> Answer:
    """Trains a version again from what was kept of it. Exit code 1 where the result differs from the record."""
    from pipeline.cli import tables
    from pipeline.runs.rebuild import rebuild
    from pipeline.workspaces import stage_server

    with stage_server.running(at_once=True):
        result = rebuild(context_of_a_person(), arguments.model, arguments.version)
    return Answer(tables.rebuild(result), result.as_dict(), 0 if result.identical else 1)


def search(arguments: argparse.Namespace) -> Answer:
    """The trials of the search that found the version's options; empty for a version without one."""
    from pipeline.cli import tables

    context = context_of_a_person()
    model = known_model(context, arguments.model)
    found = context.registry.records(model, arguments.version).evaluation.get("search", {})
    return Answer(tables.search(model, arguments.version, found), found)


def card(arguments: argparse.Namespace) -> Answer:
    """The model card as Markdown; --html writes it as a page, --keep puts it among the version's artifacts in MLflow."""
    from pipeline.runs.model_card import keep
    from pipeline.runs.model_card.card import card as made
    from pipeline.runs.model_card.card import html, markdown

    context = context_of_a_person()
    model = known_model(context, arguments.model)
    found = made(context, model, arguments.version)
    if arguments.keep:
        keep.keep_card(context, model, found.version)
    if arguments.html is not None:
        write(arguments.html, html(found))
    return Answer(markdown(found).rstrip("\n"), found.as_dict())


def predict(arguments: argparse.Namespace) -> Answer:
    """Scores a file with the live version. Exit code 1 where rows were refused, which the output names."""
    from pipeline.ledger.timeline import live_at
    from pipeline.runs.batch_scoring import score, written
    from pipeline.workspaces.kept_out import keep_out

    context = context_of_a_person()
    model = known_model(context, arguments.model)
    refuse(arguments.output, arguments.input)
    live = live_at(context.ledger, model)
    # A model whose block is broken, or gone, is still scored, and strictly.
    settings, form = context.params.models.get(model), context.params.csv_of(model)
    on_breach = settings.rollout.serving.on_breach if settings else "refuse"
    keep_out(context.project, written(arguments.output))
    with writing(arguments.output):
        result = score(context.registry, model, arguments.input, arguments.output, live, form, on_breach)
    # A script must not go on as if each row had its answer.
    return Answer(result.sentence(arguments.output), result.as_dict(), 1 if result.refused else 0)


def score(arguments: argparse.Namespace) -> Answer:
    """Scores the rows of one interval, the last complete one without --interval, and writes the answers to `scoring.destination`."""
    from pipeline.runs import scoring
    from pipeline.runs.scoring_interval import Interval

    context, name = context_of_a_person(), arguments.model
    wanted = context.params.model(name).scoring
    # Without `scoring` the function below says what is missing.
    cron = wanted.cron if wanted is not None else "@daily"
    interval = Interval.of(arguments.interval) if arguments.interval else Interval.last_complete(cron, context.clock())
    scored = scoring.score_interval(context, f"score-{name}-{interval.name}", name, interval)
    lines = f"{name}: {scored.sentence()}, in {scored.wall_s:.1f} s, {scored.cost:.6f} {scored.currency}"
    return Answer(lines, scored.body())


def export(arguments: argparse.Namespace) -> Answer:
    """Writes a version as a signed folder that a machine with onnxruntime and numpy alone serves."""
    from pipeline.runs import edge_export
    from pipeline.workspaces.kept_out import keep_out

    context = context_of_a_person()
    keep_out(context.project, [arguments.to])
    model = known_model(context, arguments.model)
    with writing(arguments.to):
        made = edge_export.export(context, model, arguments.version, arguments.to)
    text = (
        f"{made.model}: version {made.version} to {made.folder}, {made.files} files, {made.size_mb:.2f} MB; "
        f"`python {made.folder}/serve.py` serves it, and with `--key {made.key}` trusts this key alone, whatever the folder says"
    )
    return Answer(text, made.as_dict())


def deploy(arguments: argparse.Namespace) -> Answer:
    """Brings a version live by the model's strategy, or by --strategy. Raises RolloutError where it does not go live."""
    from pipeline.cli import tables
    from pipeline.deployer import traffic

    context = context_of_a_person()
    model = known_model(context, arguments.model)
    accept = arguments.accept_schema_change
    result = traffic(context).deploy("", model, arguments.version, "by hand", arguments.strategy, 0, accept)
    return Answer(f"{model}: {tables.deployment(result)}", result.as_dict())


def rollback(arguments: argparse.Namespace) -> Answer:
    """Gives all traffic back to the predecessor, or calls back the rollout that goes on."""
    from pipeline.cli import tables
    from pipeline.deployer import traffic

    context = context_of_a_person()
    model = known_model(context, arguments.model)
    result = traffic(context).rollback("", model, "by hand")
    return Answer(f"{model}: {tables.rollback(result)}", result.as_dict())


def undeploy(arguments: argparse.Namespace) -> Answer:
    """Takes a model off the router and ends its slots; one that params.yaml no longer has too."""
    from pipeline.cli import tables
    from pipeline.deployer import traffic

    context, model = context_of_a_person(), arguments.model
    result = traffic(context).undeploy("", model, "by hand")
    return Answer(f"{model}: {tables.undeployment(model, result, model in context.params.models)}", result.as_dict())


def watch(arguments: argparse.Namespace) -> Answer:
    """Compares the champion with its predecessor on matured labels, as the monitor Dag does, and rolls back where it is worse."""
    from pipeline.runs.post_rollout_watch import watch

    context = context_of_a_person()
    model = known_model(context, arguments.model)
    result = watch(context, "", model, as_of_look(context, arguments.as_of))
    return Answer(f"{model}: {result.decision}; {result.reason}", result.as_dict())


def reconcile(arguments: argparse.Namespace) -> Answer:
    """Makes what runs agree with the route files, of the named models or of all, and finishes rollouts that were cut off."""
    from pipeline.deployer import traffic

    context = context_of_a_person()
    models = [known_model(context, model) for model in arguments.models]
    changes = traffic(context).reconcile("", models or None)
    return Answer("\n".join(changes) or "nothing to do: what runs agrees with the routes", {"done": changes})


def status(arguments: argparse.Namespace) -> Answer:
    """What is live, of all models or of one, with what is wrong; faults that no model owns are each one's `shared_faults`."""
    from pipeline.cli import tables
    from pipeline.deployer import traffic
    from pipeline.deployer.status import faults

    context = context_of_a_person()
    models = traffic(context).status(known_model(context, arguments.model))
    shared = faults(context)
    values = [{**model.as_dict(), "shared_faults": shared} for model in models]
    if arguments.json and not models:
        # The list is empty, so that it cannot have them.
        for line in shared:
            print(line, file=sys.stderr)
    return Answer(tables.status(models, shared), values)


def timeline(arguments: argparse.Namespace) -> Answer:
    """A model's events up to `--at`, the newest `--last`, 0 for all, and what was live then."""
    from pipeline.cli import tables
    from pipeline.ledger.timeline import live_at, timeline

    context = context_of_a_person()
    until = arguments.at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if arguments.at else ""
    model = known_model(context, arguments.model, past=True)
    live = live_at(context.ledger, model, until)
    # One more than is shown says whether there are more.
    found = timeline(context.ledger, model, until, arguments.last + 1 if arguments.last else 0)
    events = found[-arguments.last :]
    if arguments.json:
        told = {"model": model, "at": until or None, "live": live.as_dict() if live else None}
        return Answer(
            "", {**told, "earlier_left_out": len(found) > len(events), "events": [e.as_dict() for e in events]}
        )
    text = tables.timeline(model, live, events)
    if len(found) > len(events):
        text += f"\nthe newest {len(events):,} events; `perennial timeline {model} --last 0` has the earlier ones too"
    return Answer(text)


def verify(arguments: argparse.Namespace) -> Answer:
    """Checks the ledger's chain and its anchors; --accept takes anchors that do not agree, with a reason. Exit code 1 where it is not whole."""
    from pipeline.cli import tables
    from pipeline.runs.ledger_check import accept, verify

    checked = accept(context_of_a_person(), arguments.accept) if arguments.accept else verify(context_of_a_person())
    return Answer(tables.ledger_check(checked), checked.as_dict(), 0 if checked.intact else 1)


def trace(arguments: argparse.Namespace) -> Answer:
    """The versions that learnt from a data version or a partition, and when each was live."""
    from pipeline.cli import tables
    from pipeline.runs.provenance import trace

    context = context_of_a_person()
    traced = trace(context, arguments.data, known_model(context, arguments.model))
    return Answer(tables.trace(traced), traced.as_dict())


def drift(arguments: argparse.Namespace) -> Answer:
    """Drift of a model's newest window, or between two files. Exit code 0 whatever the verdict.

    Raises SettingsError for arguments that do not go together.
    """
    if arguments.reference or arguments.current:
        return _drift_of_files(arguments)
    if not arguments.model:
        raise SettingsError("drift", "needs MODEL, or --reference and --current", "see `perennial drift --help`")
    if arguments.html or arguments.report:
        raise SettingsError("drift --html or --report", "is for two files", "give --reference and --current")
    from pipeline.cli import tables
    from pipeline.runs.drift_check import check_drift

    context, name = context_of_a_person(), arguments.model
    check = check_drift(context, f"cli/drift/{name}", name, as_of_look(context, arguments.as_of))
    rule = context.params.model(name).policy.rule
    other = (
        "" if rule == "drift" else f"{name} goes by models.{name}.policy.rule: {rule}, see `perennial decide {name}`"
    )
    return Answer(tables.drift_check(check, other), {**check.as_dict(), "rule": rule})


def _drift_of_files(arguments: argparse.Namespace) -> Answer:
    from pipeline.cli import tables
    from pipeline.monitoring.file_drift import compare_files

    if not (arguments.reference and arguments.current) or arguments.model:
        raise SettingsError("drift", "needs either MODEL, or both --reference and --current", "give one of the two")
    for output in filter(None, (arguments.html, arguments.report)):
        refuse(output, arguments.reference, arguments.current, endings=PAGE)
    comparison = compare_files(arguments.reference, arguments.current, arguments.report)
    if arguments.html:
        from pipeline.monitoring.drift_page import Sides, drift_page

        sides = Sides(comparison.reference, comparison.now, str(arguments.reference), str(arguments.current))
        write(arguments.html, drift_page(comparison.drift, sides))
    return Answer(tables.drift(comparison.drift), comparison.drift.as_dict())
