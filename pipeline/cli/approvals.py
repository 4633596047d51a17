"""The commands about who let a version go live."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipeline.cli.arguments import count, reason
from pipeline.cli.commands import Answer, context_of_a_person, known_model
from pipeline.errors import SettingsError
from pipeline.ledger.approvals import parked_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.context import Context
    from pipeline.runs.audit import AuditLine


def add_to(add: Any) -> None:
    """Adds the commands to the parser."""
    approve = add("approve", approve_version, "let a version go live, exactly as it is now")
    approve.add_argument("model")
    approve.add_argument("version")
    approve.add_argument("--reason", type=reason, default="")
    approve.add_argument("--ask", action="store_true", help="ask for it (again) and decide nothing")
    reject = add("reject", reject_version, "a version shall not go live; ends an approval too")
    reject.add_argument("model")
    reject.add_argument("version")
    reject.add_argument("--reason", type=reason, default="")
    audit = add(
        "audit", audit_model, "who did what to a model, on which evidence; or which version gave one prediction"
    )
    audit.add_argument("model", nargs="?", default="")
    audit.add_argument("--kind", default="", help="registration, approval, rollout, rollback, override or settings")
    about = "the newest N lines; 0 is all (default: 1000)"
    audit.add_argument("--last", type=count, default=1000, metavar="N", help=about)
    audit.add_argument("--request", default="", metavar="ID", help="the x-request-id of an answer")


def approve_version(arguments: argparse.Namespace) -> Answer:
    """Approves the version's package, which its digest names, and answers the run in Airflow that waits for it; with --ask asks alone."""
    from pipeline.runs import approval

    context, version = context_of_a_person(), arguments.version
    model = known_model(context, arguments.model)
    if arguments.ask:
        asked = approval.ask(context, "", model, version)
        text = f"{model}: {asked.event.sentence()}; `perennial approve {model} {version}` approves it"
        return Answer(text, {"model": model, **asked.event.body()})
    run, person = parked_run(context.ledger, model, version), approval.Person.at_the_command_line(context)
    entry = approval.approve(context, run, model, version, person, arguments.reason)
    goes_on = _answer_airflow(context, arguments, run, "Approve")
    then = goes_on or f"`perennial deploy {model} {version}` brings it live"
    note = f" ({entry.event.note})" if entry.event.note else ""
    return Answer(f"{model}: {entry.event.sentence()}{note}; {then}", {"model": model, **entry.event.body()})


def reject_version(arguments: argparse.Namespace) -> Answer:
    """Rejects the version, or takes an approval back, and answers the run in Airflow that waits for it."""
    from pipeline.runs import approval

    context, version = context_of_a_person(), arguments.version
    model = known_model(context, arguments.model)
    run, person = parked_run(context.ledger, model, version), approval.Person.at_the_command_line(context)
    entry = approval.reject(context, run, model, version, person, arguments.reason)
    goes_on = _answer_airflow(context, arguments, run, "Reject")
    said = f"{model}: {entry.event.sentence()}" + (f"; {goes_on}" if goes_on else "")
    return Answer(said, {"model": model, **entry.event.body()})


def audit_model(arguments: argparse.Namespace) -> Answer:
    """A model's audit trail, the newest `--last` lines, 0 for all; with --request the version that gave one answer.

    Raises SettingsError without a model or a request, and for a kind beside a request.
    """
    from pipeline.cli import audit_table
    from pipeline.runs import audit

    context = context_of_a_person()
    model = known_model(context, arguments.model, past=True)
    if arguments.request:
        if arguments.kind:
            raise SettingsError("audit --kind", "is for a model, not for a request", "leave one of the two out")
        answers = audit.request(context, arguments.request, model)
        values = {"request": arguments.request, "answers": [answer.as_dict() for answer in answers]}
        return Answer(audit_table.request(arguments.request, answers), values)
    if not model:
        raise SettingsError("audit", "needs MODEL, or --request", "see `perennial audit --help`")
    lines, in_all = _audit_lines(context, model, arguments.kind, arguments.last)
    values = {"model": model, "in_all": in_all, "earlier_left_out": in_all > len(lines)}
    text = audit_table.audit(model, lines)
    if in_all > len(lines):
        kind = f" --kind {arguments.kind}" if arguments.kind else ""
        text += f"\nthe newest {len(lines):,} of {in_all:,} lines; `perennial audit {model}{kind} --last 0` has the {in_all - len(lines):,} earlier ones too"
    return Answer(text, values | {"lines": [line.as_dict() for line in lines]})


def _audit_lines(context: Context, model: str, kind: str, last: int) -> tuple[Sequence[AuditLine], int]:
    """The last lines, 0 for all, in their order, and how many there are in all."""
    from pipeline.runs.audit import audit
    from pipeline.runs.audit_newest import newest_lines

    if not last:
        lines = audit(context.ledger, model, kind)
        return lines, len(lines)
    newest = newest_lines(context.ledger, model, kind, last)
    return newest.lines[-last:], newest.counts[kind] if kind else sum(newest.counts.values())


def _answer_airflow(context: Context, arguments: argparse.Namespace, run: str, option: str) -> str:
    """What became of the task of this run in Airflow that waits for the decision; '' when none does."""
    from pipeline.services import parked_task

    if not run:
        return ""
    why_not = parked_task.answer(context.environment, run, "approve", option)
    if why_not is None:
        return ""
    if not why_not:
        return f"its run {run} goes on"
    there = f"choose {option} there"
    if context.environment.server_mode:
        again = f"docker compose exec api-server perennial {arguments.command} {arguments.model} {arguments.version}"
        there = f"on the server, `{again}` moves it; or {there}"
    return f"its run {run} still waits in Airflow ({why_not}): {there}"
