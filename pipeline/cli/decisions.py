"""The commands about when a model changes."""

from __future__ import annotations

import argparse

from pipeline.cli import decision_table
from pipeline.cli.commands import Answer, as_of_look, context_of_a_person, known_model


def decide(arguments: argparse.Namespace) -> Answer:
    """Whether to retrain, by the model's rule: the receipt with its reasons, which the ledger keeps; it starts no run."""
    from pipeline.accounts import waits
    from pipeline.accounts.statement import Terms
    from pipeline.runs import before_live, looks_by_hand, receipt_calibration, retrain_decision
    from pipeline.runs.drift_check import check_drift

    context, name = context_of_a_person(), arguments.model
    as_of, run = as_of_look(context, arguments.as_of), looks_by_hand.run_of(name)
    by_drift = context.params.model(name).policy.rule == retrain_decision.DRIFT
    look = check_drift(context, run, name, as_of).as_dict() if by_drift else None
    receipt = retrain_decision.decide(context, run, name, as_of, look)
    settled = receipt_calibration.calibration(context.ledger, name)
    waited = waits.of_model(context.ledger, Terms.of(context.params), name)
    told = waits.said(waited, context.params.prices.currency)
    answer = {**receipt.body(), "receipts": settled.as_dict(), "waits": told}
    over = before_live.over(context.ledger, name, receipt)
    return Answer(decision_table.receipt(name, receipt, settled.sentence(), told, over), answer)


def backtest(arguments: argparse.Namespace) -> Answer:
    """Replays every policy on the model's past; --apply writes the recommended one into the model's block."""
    from pipeline.cli import backtest_table
    from pipeline.runs.backtest.run import backtest as replay_the_past

    context = context_of_a_person()
    windows = [text for text in arguments.windows.split(",") if text]
    found = replay_the_past(
        context, arguments.model, arguments.start, arguments.end, arguments.window_days, windows=windows
    )
    text = backtest_table.backtest(found)
    if arguments.apply:
        from pipeline.runs.backtest.apply import apply

        text = f"{text}\n{apply(context.project, found)}"
    return Answer(text, found.as_dict())


def freeze(arguments: argparse.Namespace) -> Answer:
    """Freezes the model until `--until`, or until somebody unfreezes it."""
    from pipeline.runs import freeze

    context = context_of_a_person()
    model = known_model(context, arguments.model)
    said = freeze.freeze(context, "", model, arguments.reason, arguments.until)
    return Answer(f"{model}: {said}", {"model": model, "frozen": freeze.frozen(context, model)})


def unfreeze(arguments: argparse.Namespace) -> Answer:
    """Ends a freeze by hand; no span of `policy.frozen`."""
    from pipeline.runs import freeze

    context = context_of_a_person()
    model = known_model(context, arguments.model)
    said = freeze.unfreeze(context, "", model, arguments.reason)
    return Answer(f"{model}: {said}", {"model": model, "frozen": None})
