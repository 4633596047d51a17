"""The command line. Every reading command takes --json; a refusal is one line and exit code 1."""

from __future__ import annotations

import argparse
import json
import math
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import PerennialError, SettingsError
from pipeline.workspaces import stage_server


def main(argv: list[str] | None = None) -> int:
    chosen = _parser().parse_args(argv)
    chosen.answer = None
    try:
        with _only_the_answer_on_stdout():
            code = chosen.call(chosen) or 0
        if chosen.answer is not None:
            print(chosen.answer)
        return code
    except PerennialError as error:
        if not (chosen.command == "stage" and _told_to_the_run(error)):
            print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped by hand; what was live stays live", file=sys.stderr)
        return 1


def _told_to_the_run(error: PerennialError) -> bool:
    """Whether a run is waiting for this stage's line; it prints it itself then."""
    from pipeline.workspaces.workspace import write_stage_error

    return write_stage_error(error)


@contextmanager
def _only_the_answer_on_stdout() -> Iterator[None]:
    """What DVC, MLflow and the stages print on the way goes to stderr, so that --json can be piped on."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _parser() -> argparse.ArgumentParser:
    from pipeline.settings.models import STRATEGIES

    parser = argparse.ArgumentParser(prog="python -m pipeline", description=(__doc__ or "").split(".")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, call, about: str, *, reads: bool = False) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(call=call)
        if reads:
            command.add_argument("--json", action="store_true", help="machine-readable")
        return command

    stage = add("stage", _stage, "run one stage here; what dvc.yaml calls")
    stage.add_argument("stage")
    stage.add_argument("model")
    retrain = add("retrain", _retrain, "the whole run without Airflow", reads=True)
    retrain.add_argument("model")
    retrain.add_argument(
        "--as-of", type=_time, help="end of the training window, ISO 8601 (default: the model's as_of)"
    )
    retrain.add_argument("--reason", default="by hand")
    retrain.add_argument("--deploy", action="store_true", help="bring the new version live")
    deploy = add("deploy", _deploy, "bring a registered version live", reads=True)
    deploy.add_argument("model")
    deploy.add_argument("version")
    deploy.add_argument("--strategy", choices=list(STRATEGIES), help="default: the one in params.yaml")
    rollback = add("rollback", _rollback, "bring the predecessor live again, or call a rollout back", reads=True)
    rollback.add_argument("model")
    watch = add("watch", _watch, "compare champion and predecessor on matured labels; roll back if worse", reads=True)
    watch.add_argument("model")
    watch.add_argument("--as-of", type=_time, help="labels known at this time count, ISO 8601 (default: now)")
    add("reconcile", _reconcile, "make what runs agree with the routes", reads=True)
    status = add("status", _status, "which version is live where, since when", reads=True)
    status.add_argument("model", nargs="?")
    timeline = add("timeline", _timeline, "what happened to a model", reads=True)
    timeline.add_argument("model")
    timeline.add_argument("--at", type=_time, help="until this time, ISO 8601")
    costs = add("costs", _costs, "what runs cost, step by step", reads=True)
    costs.add_argument("model", nargs="?")
    costs.add_argument("--run", default="", metavar="ID")
    roi = add("roi", _roi, "what automation earns against doing the same by hand", reads=True)
    roi.add_argument("model", nargs="?")
    trace = add("trace", _trace, "which versions learnt from some data, and when each was live", reads=True)
    trace.add_argument("data", help="a data version, or the date of a partition")
    trace.add_argument("--model", default="", help="only this one")
    reproduce = add("reproduce", _reproduce, "make a version again from its records, and compare", reads=True)
    reproduce.add_argument("model")
    reproduce.add_argument("version")
    predict = add("predict", _predict, "score a Parquet or CSV file with the champion", reads=True)
    predict.add_argument("model")
    predict.add_argument("--input", type=Path, required=True, metavar="FILE")
    predict.add_argument("--output", type=Path, required=True, metavar="FILE")
    add("verify", _verify, "check the ledger's chain", reads=True)
    drift = add("drift", _drift, "compare live traffic, or two files, with what was trained on", reads=True)
    drift.add_argument("model", nargs="?")
    drift.add_argument("--as-of", type=_time, help="end of the window, ISO 8601 (default: now)")
    drift.add_argument("--reference", type=Path, metavar="FILE")
    drift.add_argument("--current", type=Path, metavar="FILE")
    drift.add_argument("--report", type=Path, metavar="HTML", help="with files: where to write Evidently's picture")
    return parser


def _time(text: str) -> datetime:
    from pipeline.settings.models import utc

    try:
        return utc(datetime.fromisoformat(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write it like 2013-04-01T00:00:00Z") from error


def _context():
    from pipeline.context import Context

    return Context.here()


def _known(context: Any, model: str | None) -> str:
    if model:
        context.params.model(model)
    return model or ""


def _stage(chosen: argparse.Namespace) -> None:
    from pipeline.runs import stages

    chosen.answer = stages.run(chosen.stage, chosen.model)


def _retrain(chosen: argparse.Namespace) -> None:
    from pipeline.runs import steps

    context = _context()
    as_of = chosen.as_of or context.params.model(chosen.model).as_of
    run = f"cli/{chosen.model}/{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"

    def say(step: str) -> None:
        print(f"{chosen.model} as of {as_of:%Y-%m-%d}: {step}", file=sys.stderr)

    with stage_server.running(at_once=True):
        told = steps.retrain(context, run, chosen.model, as_of, chosen.reason, chosen.deploy, say)
    _print(chosen, told, f"{told['outcome']}, for {told['cost']:.4f} {told['currency']} (run {run})")


def _deploy(chosen: argparse.Namespace) -> None:
    from pipeline.cli import tables
    from pipeline.deployer import traffic

    context = _context()
    model = _known(context, chosen.model)
    result = traffic(context).deploy("", model, chosen.version, "by hand", chosen.strategy, 0)
    _print(chosen, result.as_dict(), f"{model}: {tables.deployment(result)}")


def _rollback(chosen: argparse.Namespace) -> None:
    from pipeline.cli import tables
    from pipeline.deployer import traffic

    context = _context()
    result = traffic(context).rollback("", _known(context, chosen.model), "by hand")
    _print(chosen, result.as_dict(), f"{chosen.model}: {tables.rollback(result)}")


def _watch(chosen: argparse.Namespace) -> None:
    from pipeline.runs.post_rollout_watch import watch

    context = _context()
    told = watch(context, "", _known(context, chosen.model), chosen.as_of or datetime.now(UTC))
    _print(chosen, told, f"{chosen.model}: {told['decision']}; {told['reason']}")


def _reconcile(chosen: argparse.Namespace) -> None:
    from pipeline.deployer import traffic

    done = traffic(_context()).reconcile("", None)
    _print(chosen, {"done": done}, "\n".join(done) or "nothing to do: what runs agrees with the routes")


def _status(chosen: argparse.Namespace) -> None:
    from pipeline.cli import tables
    from pipeline.deployer import traffic

    context = _context()
    told = [status.as_dict() for status in traffic(context).status(_known(context, chosen.model))]
    _print(chosen, told, tables.status(told))


def _timeline(chosen: argparse.Namespace) -> None:
    from pipeline.cli import tables
    from pipeline.ledger.timeline import live_at, timeline

    context = _context()
    until = chosen.at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if chosen.at else ""
    model = _known(context, chosen.model)
    live = live_at(context.ledger, model, until)
    told = {
        "model": model,
        "at": until or None,
        "live": live.as_dict() if live is not None else None,
        "events": [event.as_dict() for event in timeline(context.ledger, model, until)],
    }
    _print(chosen, told, tables.timeline(told))


def _costs(chosen: argparse.Namespace) -> None:
    from pipeline.cli import tables
    from pipeline.ledger import costs

    context = _context()
    model, prices = _known(context, chosen.model), context.params.prices
    told = [run.as_dict() for run in costs.run_costs(context.ledger, prices, run=chosen.run, model=model)]
    if chosen.run and not told:
        raise SettingsError(f"run {chosen.run}", "is not in the ledger", "`python -m pipeline costs` lists the runs")
    _print(chosen, told, tables.costs(told))


def _roi(chosen: argparse.Namespace) -> None:
    from pipeline.cli import tables
    from pipeline.ledger import costs

    context = _context()
    told = costs.roi(
        context.ledger, context.params.prices, context.params.baseline, model=_known(context, chosen.model)
    ).as_dict()
    _print(chosen, told, tables.roi(told))


def _trace(chosen: argparse.Namespace) -> None:
    from pipeline.cli import tables
    from pipeline.runs.provenance import trace

    context = _context()
    told = trace(context, chosen.data, _known(context, chosen.model))
    _print(chosen, told, tables.trace(told))


def _reproduce(chosen: argparse.Namespace) -> int:
    from pipeline.cli import tables
    from pipeline.runs.rebuild import rebuild

    def say(step: str) -> None:
        print(f"{chosen.model} version {chosen.version}: {step}", file=sys.stderr)

    with stage_server.running(at_once=True):
        told = rebuild(_context(), chosen.model, chosen.version, say)
    _print(chosen, told, tables.rebuild(told))
    return 0 if told["identical"] else 1


def _predict(chosen: argparse.Namespace) -> None:
    from pipeline.runs.batch_scoring import score

    context = _context()
    model = _known(context, chosen.model)

    def say(line: str) -> None:
        print(f"{model}: {line}", file=sys.stderr, flush=True)

    told = score(context.registry, model, chosen.input, chosen.output, say)
    line = (
        f"{model}: {told['rows']:,} rows with version {told['version']} to {chosen.output}, in {told['wall_s']:.1f} s"
    )
    _print(chosen, told, line)


def _verify(chosen: argparse.Namespace) -> int:
    count, broken = _context().ledger.verify()
    told = {"events": count, "intact": broken is None, "first_broken_seq": broken}
    line = f"ledger: {count} events, the chain is intact"
    if broken is not None:
        line = f"ledger: the chain breaks at event {broken}; compare that row with a backup"
    _print(chosen, told, line)
    return 0 if broken is None else 1


def _drift(chosen: argparse.Namespace) -> None:
    from pipeline.cli import tables
    from pipeline.runs import steps

    if chosen.reference or chosen.current:
        from pipeline.monitoring.file_drift import compare_files

        if not (chosen.reference and chosen.current) or chosen.model:
            raise SettingsError("drift", "wants MODEL, or both --reference and --current", "give one of the two")
        told = compare_files(chosen.reference, chosen.current, chosen.report).as_dict()
    elif chosen.model:
        as_of = chosen.as_of or datetime.now(UTC)
        told = steps.check_drift(_context(), f"cli/drift/{chosen.model}", chosen.model, as_of)
    else:
        raise SettingsError(
            "drift", "wants MODEL, or --reference and --current", "see `python -m pipeline drift --help`"
        )
    _print(chosen, told, tables.drift(told))


def _print(chosen: argparse.Namespace, told: Any, text: str) -> None:
    chosen.answer = json.dumps(_finite(told), indent=2, default=str) if chosen.json else text


def _finite(value: Any) -> Any:
    """JSON knows no NaN: what could not be computed is null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
