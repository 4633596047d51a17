"""The commands about money. Text and JSON of years are long, so that only the one that is asked for is made."""

from __future__ import annotations

import argparse
import gc
import re

from pipeline.cli.commands import Answer, context_of_a_person, known_model
from pipeline.errors import SettingsError

MONTH = re.compile(r"(?!9999)(19|[2-9][0-9])[0-9]{2}-(0[1-9]|1[0-2])")


def _without_pauses() -> None:
    """The command ends soon, and looking for cycles among so many lines takes a fifth of its time."""
    gc.disable()


def costs(arguments: argparse.Namespace) -> Answer:
    """The bill, of all models or of one, of a month or of a run. Raises SettingsError for a run that the ledger does not have."""
    from pipeline.accounts.statement import Terms, statement
    from pipeline.cli import account_table
    from pipeline.ledger.costs import run_costs

    _without_pauses()
    context = context_of_a_person()
    model = known_model(context, arguments.model, past=True)
    terms = Terms.of(context.params)
    with context.ledger.reading():
        bill = statement(context.ledger, terms, model=model, month=arguments.month, run=arguments.run)
        runs = [
            each for run in bill.shown_runs for each in run_costs(context.ledger, terms.prices, run=run, model=model)
        ]
    if arguments.run and not runs:
        raise SettingsError(f"run {arguments.run}", "is not in the ledger", "`perennial costs` lists the newest runs")
    if arguments.json:
        return Answer("", {**bill.as_dict(), "runs": [run.as_dict() for run in runs]})
    return Answer(account_table.costs(bill, runs, arguments.run))


def account(arguments: argparse.Namespace) -> Answer:
    """What a model, or all, cost and what each deployment was worth; the newest `--last` deployments one by one, 0 for all."""
    from pipeline.accounts.account import account as account_of
    from pipeline.accounts.statement import Terms
    from pipeline.cli import account_table

    _without_pauses()
    context = context_of_a_person()
    model, terms = known_model(context, arguments.model, past=True), Terms.of(context.params)
    with context.ledger.reading():
        told = account_of(context.ledger, terms, model, last=arguments.last)
    return Answer("", told.as_dict()) if arguments.json else Answer(account_table.account(told))


def roi(arguments: argparse.Namespace) -> Answer:
    """What automation earned, of all models or of one; amounts in `prices.currency`."""
    from pipeline.accounts.roi import roi as roi_of
    from pipeline.accounts.statement import Terms
    from pipeline.cli import roi_table

    _without_pauses()
    context = context_of_a_person()
    model = known_model(context, arguments.model, past=True)
    with context.ledger.reading():
        earned = roi_of(context.ledger, Terms.of(context.params), context.params.baseline, model=model)
        told = earned.as_dict()
    return Answer("", told) if arguments.json else Answer(roi_table.roi(told))


def month(text: str) -> str:
    """A month like 2026-03. Raises argparse.ArgumentTypeError."""
    if text and not MONTH.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a month; write it like 2026-03")
    return text
