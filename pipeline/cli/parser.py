"""The command line's words: each command's arguments, its help, and the function in commands.py that runs it."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

from pipeline.cli import (
    accounts,
    approvals,
    commands,
    decisions,
    pruning,
    reliability,
)
from pipeline.cli.arguments import count, reason, time
from pipeline.cli.commands import Answer


def parser() -> argparse.ArgumentParser:
    """Parses a command into its arguments; `call` is its function. Every command but `stage` takes --json."""
    top = argparse.ArgumentParser(prog="perennial", description="The command line")
    names = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, call: Callable[[argparse.Namespace], Answer], about: str) -> argparse.ArgumentParser:
        command = names.add_parser(name, help=about, description=about)
        command.set_defaults(call=call)
        return command

    def add_with_json(name: str, call: Callable[[argparse.Namespace], Answer], about: str) -> argparse.ArgumentParser:
        command = add(name, call, about)
        command.add_argument("--json", action="store_true", help="machine-readable")
        return command

    stage = add("stage", commands.stage, "run one stage here; what dvc.yaml calls")
    stage.add_argument("stage")
    stage.add_argument("model")
    _add_init(add_with_json)
    _add_run_commands(add_with_json)
    _add_rollout_commands(add_with_json)
    _add_ledger_commands(add_with_json)
    _add_data_commands(add_with_json)
    _add_policy_commands(add_with_json)
    approvals.add_to(add_with_json)
    _add_reliability_commands(add_with_json)
    return top


Add = Callable[[str, Callable[[argparse.Namespace], Answer], str], argparse.ArgumentParser]


def _add_init(add: Add) -> None:
    init = add("init", commands.init, "a model's block for params.yaml, from a table")
    init.add_argument("model")
    init.add_argument(
        "--data",
        required=True,
        metavar="FILES",
        help="a CSV or Parquet file, a folder, a glob, these as s3://, or a SELECT",
    )
    init.add_argument("--target", required=True, metavar="COLUMN", help="what is to be predicted")
    init.add_argument("--dry-run", action="store_true", help="show the block and write nothing")
    inferred = init.add_argument_group("instead of what is inferred")
    inferred.add_argument("--time", metavar="COLUMN", help="when a row's features were known")
    inferred.add_argument("--key", metavar="COLUMN", help="what a row is called; labels are joined by it and the time")
    inferred.add_argument("--label-time", metavar="COLUMN", help="when the target was known")
    inferred.add_argument("--timezone", default="UTC", metavar="NAME", help="of times without a zone (default: UTC)")
    inferred.add_argument("--task", metavar="TASK", help="binary, multiclass or regression")
    inferred.add_argument("--positive", metavar="LABEL", help="which of two labels is 1")
    inferred.add_argument("--metric", metavar="METRIC", help="what versions are compared by")
    inferred.add_argument("--weight", metavar="COLUMN", help="how much a row counts, from 0")
    for kind in ("numeric", "categorical", "datetime", "text", "leave-out"):
        about = "no features" if kind == "leave-out" else f"{kind} features, whatever they look like"
        inferred.add_argument(
            f"--{kind}", type=_names, default=(), metavar="COLUMNS", help=f"{about}, separated by commas"
        )
    inferred.add_argument("--window-days", type=float, metavar="DAYS", help="how much a run learns from")
    inferred.add_argument("--holdout-days", type=float, metavar="DAYS", help="how much of it judges a version")
    inferred.add_argument("--cron", metavar="CRON", help="when a run starts by itself")


def _names(text: str) -> tuple[str, ...]:
    """Names as a CSV has them, so that a name with a comma goes in quotes."""
    return tuple(name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip())


def _add_run_commands(add: Add) -> None:
    retrain = add("retrain", commands.retrain, "the whole run without Airflow")
    retrain.add_argument("model")
    retrain.add_argument("--as-of", type=time, help="end of the training window, ISO 8601 (default: the model's as_of)")
    retrain.add_argument("--reason", type=reason, default="by hand")
    retrain.add_argument("--deploy", action="store_true", help="bring the new version live")
    _add_accept_schema_change(retrain)
    reproduce = add("reproduce", commands.reproduce, "rebuild a version from its records, and compare")
    reproduce.add_argument("model")
    reproduce.add_argument("version")
    search = add("search", commands.search, "what the search of a version's options tried, and what it chose")
    search.add_argument("model")
    search.add_argument("version")
    card = add(
        "card",
        commands.card,
        "the model card of a version, as Markdown: what it is for, its data, metrics, gates, history",
    )
    card.add_argument("model")
    card.add_argument("version", nargs="?", default="", help="default: the live one, else the newest")
    card.add_argument("--html", type=Path, metavar="FILE", help="write it as a page too")
    card.add_argument(
        "--keep", action="store_true", help="put it, as it is now, among the version's artifacts in MLflow"
    )
    predict = add("predict", commands.predict, "score a Parquet or CSV file with the champion")
    predict.add_argument("model")
    predict.add_argument("--input", type=Path, required=True, metavar="FILE")
    predict.add_argument("--output", type=Path, required=True, metavar="FILE")
    export = add("export", commands.export, "write a version for a machine with onnxruntime and numpy alone")
    export.add_argument("model")
    export.add_argument("version", nargs="?", default="", help="default: the live one")
    export.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    score = add("score", commands.score, "score an interval's rows with the champion, to scoring.destination")
    score.add_argument("model")
    about = "START/END, ISO 8601 (default: the last complete one of scoring.cron)"
    score.add_argument("--interval", default="", metavar="START/END", help=about)


def _add_rollout_commands(add: Add) -> None:
    from pipeline.settings.rollout import STRATEGIES

    deploy = add("deploy", commands.deploy, "bring a registered version live")
    deploy.add_argument("model")
    deploy.add_argument("version")
    deploy.add_argument("--strategy", choices=list(STRATEGIES), help="default: the one in params.yaml")
    _add_accept_schema_change(deploy)
    rollback = add("rollback", commands.rollback, "bring the predecessor live again, or call a rollout back")
    rollback.add_argument("model")
    decide = add("decide", decisions.decide, "whether a retrain pays now, and why: the receipt, which the ledger keeps")
    decide.add_argument("model")
    decide.add_argument("--as-of", type=time, help="what was known then decides, ISO 8601 (default: now)")
    freeze = add("freeze", decisions.freeze, "the stop button: no retrain and no new version until then, but by hand")
    freeze.add_argument("model")
    freeze.add_argument("--until", type=time, help="ISO 8601 (default: until `unfreeze`)")
    freeze.add_argument("--reason", type=reason, default="by hand")
    unfreeze = add("unfreeze", decisions.unfreeze, "end a freeze")
    unfreeze.add_argument("model")
    unfreeze.add_argument("--reason", type=reason, default="by hand")
    undeploy = add("undeploy", commands.undeploy, "take a model off the router and end its slots; needs no block")
    undeploy.add_argument("model")
    watch = add("watch", commands.watch, "compare champion and predecessor on matured labels; roll back if worse")
    watch.add_argument("model")
    watch.add_argument("--as-of", type=time, help="labels known at this time count, ISO 8601 (default: now)")
    reconcile = add("reconcile", commands.reconcile, "make what runs agree with the routes")
    reconcile.add_argument("models", nargs="*", metavar="MODEL", help="only these (default: all)")
    status = add("status", commands.status, "which version is live where, since when")
    status.add_argument("model", nargs="?")


def _add_accept_schema_change(command: argparse.ArgumentParser) -> None:
    about = "the version may take other columns than the live one: the clients know"
    command.add_argument("--accept-schema-change", action="store_true", help=about)


def _add_ledger_commands(add: Add) -> None:
    timeline = add("timeline", commands.timeline, "what happened to a model")
    timeline.add_argument("model")
    timeline.add_argument("--at", type=time, help="until this time, ISO 8601")
    timeline.add_argument(
        "--last", type=count, default=1000, metavar="N", help="the newest N events; 0 is all (default: 1000)"
    )
    costs = add("costs", accounts.costs, "the bill by part, model, month, step and run")
    costs.add_argument("model", nargs="?")
    costs.add_argument("--run", default="", metavar="ID", help="this run alone, step by step")
    costs.add_argument("--month", type=accounts.month, default="", metavar="MONTH", help="this month alone: 2026-03")
    account = add(
        "account", accounts.account, "what a model cost, what its deployments were worth, and whether they paid"
    )
    account.add_argument("model")
    about = "the newest N deployments and decisions one by one; 0 is all (default: 100)"
    account.add_argument("--last", type=count, default=100, metavar="N", help=about)
    roi = add("roi", accounts.roi, "what automation earns against doing the same by hand")
    roi.add_argument("model", nargs="?")
    verify = add("verify", commands.verify, "check the ledger's chain, and the anchors outside it")
    accepted = "a ledger that was restored on purpose: no longer compare it with the anchors of what is lost"
    verify.add_argument("--accept", type=reason, default="", metavar="REASON", help=accepted)
    prune = add("prune", pruning.prune, "remove what the section keep of params.yaml lets go")
    prune.add_argument("models", nargs="*", metavar="MODEL")
    prune.add_argument("--dry-run", action="store_true", help="say what would go and remove nothing")


def _add_data_commands(add: Add) -> None:
    trace = add("trace", commands.trace, "which versions were trained on some data, and when each was live")
    trace.add_argument("data", help="a data version, or the date of a partition")
    trace.add_argument("--model", default="", help="only this one")
    drift = add("drift", commands.drift, "compare live traffic with the training data, or any two files")
    drift.add_argument("model", nargs="?")
    drift.add_argument("--as-of", type=time, help="end of the window, ISO 8601 (default: now)")
    files = "a Parquet or CSV file, a folder of them, or a glob in quotes"
    drift.add_argument("--reference", type=Path, metavar="FILES", help=files)
    drift.add_argument("--current", type=Path, metavar="FILES", help=files)
    drift.add_argument("--html", type=Path, help="with files: where to write a page of them, then and now")
    drift.add_argument("--report", type=Path, metavar="HTML", help="with files: where to write Evidently's picture")


def _add_policy_commands(add: Add) -> None:
    backtest = add("backtest", decisions.backtest, "replay policies on a model's past: when would a retrain have paid")
    backtest.add_argument("model")
    first = "start of the first window, ISO 8601 (default: when the source had a whole training window)"
    backtest.add_argument("--from", dest="start", type=time, metavar="T", help=first)
    last = "end of the last window (default: the newest labelled row)"
    backtest.add_argument("--to", dest="end", type=time, metavar="T", help=last)
    about = "length of a window: a policy looks at the start of each (default: 7)"
    backtest.add_argument("--apply", action="store_true", help="write the recommended policy into the model's block")
    lengths = (
        "compare versions that learn from so many days too, or `all` of the source (without a list: 30,90,365,all)"
    )
    usual = "30,90,365,all"
    backtest.add_argument("--windows", nargs="?", const=usual, default="", metavar="DAYS,…", help=lengths)
    backtest.add_argument("--window-days", type=float, default=7.0, metavar="DAYS", help=about)


def _add_reliability_commands(add: Add) -> None:
    slo = add("slo", reliability.slo, "availability, latency, throughput, and what is left of the error budgets")
    slo.add_argument("model", nargs="?")
    slo.add_argument("--hours", type=float, default=24.0, metavar="HOURS", help="the last hours (default: 24)")
    slo.add_argument("--prometheus", type=Path, metavar="FILE", help="write Prometheus' rules for the objectives")
    slo.add_argument("--grafana", type=Path, metavar="FILE", help="write Grafana's dashboard of them")
    slo.add_argument("--act", action="store_true", help="roll back now if a budget burns soon after a rollout")
    notify = add("notify", reliability.notify, "what people were told, and by --test whether they can be")
    notify.add_argument("--test", action="store_true", help="send a test message to each recipient of notify.to")
    notify.add_argument("--to", default="", metavar="NAME", help="only to this one")
