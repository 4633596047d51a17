"""Whether a model is retrained now: its rule is asked, guards are looked at, and the receipt goes to the ledger.

A look decides by what was known at its as-of, so the same look comes to the same when it is repeated. Nothing is trained for it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.context import Context
from pipeline.errors import RegistryError
from pipeline.ledger import costs
from pipeline.ledger.chain import canonical
from pipeline.ledger.decision_events import Backtested
from pipeline.ledger.receipt_events import RetrainDecided
from pipeline.ledger.timeline import LiveVersion, live_at
from pipeline.runs import (
    before_live,
    decision_settlement,
    looks_by_hand,
    retrain_budget,
    retrain_guards,
    retrain_signals,
    window_losses,
)
from pipeline.settings.models import Model, time_of

if TYPE_CHECKING:
    from pipeline.policy.economics import Figure, Worth
    from pipeline.policy.retraining.base import Decision, Known
    from pipeline.policy.retraining.value import Value
    from pipeline.runs.window_losses import LiveHistory

log = logging.getLogger(__name__)

DRIFT = "drift"
BUDGET = "budget"
# The rules that go by the curve of staleness.
BY_VALUE = ("value", BUDGET)
# The rules under which a run on schedule asks nobody.
BY_SCHEDULE = (DRIFT, "schedule")


def decide(
    context: Context, run: str, name: str, as_of: datetime, look: Mapping[str, Any] | None = None
) -> RetrainDecided:
    """The receipt as of `as_of`, which the ledger has then. `look` is what the rule `drift` goes by: a drift check's decision.

    Raises RegistryError when the model has no champion.
    """
    live = live_at(context.ledger, name)
    if live is None:
        raise RegistryError(f"model {name}", "has no champion", f"train one: `perennial retrain {name} --deploy`")
    model = context.params.model(name)
    if model.policy.rule != DRIFT and (then := before_live.decided_then(context.ledger, name, live, as_of)) is not None:
        return then
    if model.policy.rule != DRIFT and (before := before_live.said(context.ledger, name, live, as_of)):
        receipt = RetrainDecided(
            **_base(model, live, as_of), says="wait", decision="wait", why=before, flips=before_live.LATER
        )
        return _written(context, run, name, receipt)
    try:
        history = window_losses.live_history(context, run, name, live, as_of)
    except window_losses.NoHistory as error:
        skewed = model.policy.rule != DRIFT and retrain_guards.skew_seen(context, name, as_of, look)
        receipt = _without_history(model, live, as_of, look, str(error))
        receipt = retrain_guards.guarded(context, run, name, as_of, receipt, retrain_guards.SKEW if skewed else "")
    else:
        receipt = _with_history(context, run, name, live, as_of, look, history)
    return _written(context, run, name, receipt)


def _written(context: Context, run: str, name: str, receipt: RetrainDecided) -> RetrainDecided:
    """The receipt, which is in the ledger once however often its look is repeated."""
    before = looks_by_hand.counted(context.ledger.events(RetrainDecided, model=name), run)
    looks = [entry.event for entry in before if entry.event.as_of == receipt.as_of]
    if not looks or canonical(looks[-1].body()) != canonical(receipt.body()):
        context.ledger.append(receipt, name, run)
    log.info("%s", receipt.sentence())
    return receipt


def of_look(context: Context, run: str, name: str, look: Mapping[str, Any]) -> dict[str, Any]:
    """The decision after a drift check, for the tasks that act on it: `since` is what one retrain is asked for because of."""
    receipt = decide(context, run, name, time_of(look["as_of"]), look)
    over = before_live.over(context.ledger, name, receipt)
    what = "drift" if look["verdict"] == "drift" else "live quality"
    by_drift = receipt.rule == DRIFT
    return {
        "decision": "wait" if over else receipt.decision,
        "as_of": receipt.as_of,
        "version": receipt.version,
        "reason": receipt.reason(f"{what}: {look['said']}" if by_drift else f"{receipt.rule}: {receipt.why}"),
        "since": look["since"] if by_drift else receipt.as_of,
        "sentence": "; ".join(filter(None, (receipt.sentence(), over))),
    }


def why_not(context: Context, run: str, name: str, as_of: datetime) -> str:
    """Why a run on schedule does not pay as of `as_of`, by the receipt that is made for it; '' where it does, where no version is live (the
    first one is always trained), and where the rule leaves it to the schedule."""
    if context.params.model(name).policy.rule in BY_SCHEDULE or live_at(context.ledger, name) is None:
        return ""
    receipt = decide(context, run, name, as_of)
    over = before_live.over(context.ledger, name, receipt)
    if receipt.decision == "retrain" and not over:
        return ""
    said = "; ".join(filter(None, (receipt.sentence(), over, "a run by hand goes on whatever this says")))
    return f"{name}: {said}"


def worth_of(context: Context, name: str, history: LiveHistory) -> Worth:
    """What a loss and a retrain cost, by the settings, the ledger's runs and the rows of the log."""
    from pipeline.policy.economics import worth

    model, prices = context.params.model(name), context.params.prices
    runs = costs.run_costs(context.ledger, prices, model=name)
    return worth(model.economics, model.loss, prices, runs, _rows_a_day(context, name, model, history))


def _rows_a_day(context: Context, name: str, model: Model, history: LiveHistory) -> Figure:
    from pipeline.policy.economics import Figure

    counted = history.labelled[history.labelled > 0]
    if len(counted):
        a_day = float(sorted(counted)[len(counted) // 2]) / model.policy.window_days
        return Figure(a_day, "measured", f"labelled requests a day, the median of {len(counted)} windows")
    if history.requests and (a_day := sorted(history.requests)[len(history.requests) // 2] / model.policy.window_days):
        return Figure(
            a_day, "measured", f"requests a day, the median of {len(history.requests)} windows without labels"
        )
    return Figure(1.0, "guess", "no whole window has requests yet")


def _with_history(
    context: Context,
    run: str,
    name: str,
    live: LiveVersion,
    as_of: datetime,
    look: Mapping[str, Any] | None,
    history: LiveHistory,
) -> RetrainDecided:
    from pipeline.policy.guards import goes_by_moves
    from pipeline.policy.retraining import covariates, of_model

    model = context.params.model(name)
    worth, rule = worth_of(context, name, history), model.policy.rule
    unit = worth.unit(model.policy.window_days)
    known = replace(history.known, cost=worth.retrain_in_loss(model.policy.window_days))
    decision_settlement.settle(context, run, name, history, worth)
    backtest = _backtest(context, name, as_of)
    seen = retrain_signals.seen(context.ledger, name, known, history, as_of, covariates.earned(backtest))
    policies = of_model.policies(model.policy, backtest, known.cost)
    said = {each: policy.decide(seen if each == "value" else known) for each, policy in policies.items()}
    asked = any(decision.action == "retrain" for decision in said.values()) or (look or {}).get("decision") == "retrain"
    still = retrain_guards.nothing_moved(context, name, as_of, known, backtest, history) if asked else ""
    others = {each: _shown(decision, history, still if goes_by_moves(each) else "") for each, decision in said.items()}
    if look is not None:
        others[DRIFT] = str(look["decision"])
    of_rule = said["value" if rule == BUDGET else rule]
    decided = _of_look(look) if rule == DRIFT else _of_decision(of_rule, history, unit)
    if of_rule.saving is None:
        decided |= _of_value(of_model.value(model.policy, backtest, known.cost), seen, unit)
    others = {other: what for other, what in others.items() if other not in (rule, "never")}
    facts = _base(model, live, as_of) | _seen_by(history, worth) | {"others": others}
    receipt = _with_basis(context, name, known, backtest, history, RetrainDecided(**(facts | decided)))
    held = [still if goes_by_moves(rule, look) else ""]
    skew = retrain_guards.skew_seen(context, name, as_of, look) if rule != DRIFT else None
    if skew is not None and skew.explains(policies["value" if rule == BUDGET else rule], known, history, model.policy):
        held.append(retrain_guards.SKEW)
    receipt = retrain_guards.guarded(context, run, name, as_of, receipt, *held)
    return _in_budget(context, run, name, as_of, of_rule, unit, receipt) if rule == BUDGET else receipt


def _seen_by(history: LiveHistory, worth: Worth) -> dict[str, Any]:
    """The inputs, for the receipt."""
    known = history.known
    return {
        "ages": {each.package.version: known.now - int(known.born[i]) for i, each in enumerate(history.versions)},
        "losses": _table(history),
        "economics": worth.as_dict(),
        "cost": worth.retrain,
        "currency": worth.currency,
    }


def _with_basis(
    context: Context,
    name: str,
    known: Known,
    backtest: Backtested | None,
    history: LiveHistory,
    receipt: RetrainDecided,
) -> RetrainDecided:
    """The receipt with what its curve is known by, where it goes by one."""
    from pipeline.policy.retraining import covariates, of_model
    from pipeline.policy.retraining.basis import GUESS, basis

    if receipt.rule not in BY_VALUE and not receipt.basis:
        return receipt
    settings = context.params.model(name).policy
    measured = backtest if of_model.curve_of(backtest, settings.window_days) is not None else None
    told = basis(name, settings.due_after_days, known, measured, covariates.said(measured))
    if not history.versions[known.live].as_of_known:
        told += f"; nobody knows as of when version {receipt.champion} was trained, so its age counts from when it went live"
    economics = dict(receipt.economics)
    if measured is None and "due_after_days" not in settings.model_fields_set:
        economics["guesses"] = [*economics["guesses"], GUESS]
    return replace(receipt, basis="; ".join(filter(None, (receipt.basis, told))), economics=economics)


def _in_budget(
    context: Context, run: str, name: str, as_of: datetime, said: Decision, unit: float, receipt: RetrainDecided
) -> RetrainDecided:
    """The receipt of a model that shares a budget: a retrain that nothing else holds back has to be among those that pay most."""
    from pipeline.ledger import lease
    from pipeline.policy.retraining.budget import Budget
    from pipeline.policy.retraining.value import Value

    # Two looks at once would both spend what is left.
    with lease.held(context.ledger, retrain_budget.LEASE, retrain_budget.WAIT_S):
        budget = Budget(name, Value(), retrain_budget.ceilings(context, run, name, as_of), unit, receipt.currency)
        if receipt.decision != "retrain":
            retrain_budget.note(context, run, name, as_of, budget, None, granted=False)
            return receipt
        within = budget.within(said)
        retrain_budget.note(context, run, name, as_of, budget, said, within.action == "retrain")
    return replace(receipt, says=within.action, decision=within.action, why=within.why, flips=within.flips)


def _backtest(context: Context, name: str, as_of: datetime) -> Backtested | None:
    """The newest one of this loss that knew of nothing after `as_of`; in another loss its curve is in another unit."""
    loss = context.params.model(name).loss
    found = [e.event for e in context.ledger.events(Backtested, model=name) if e.event.loss == loss]
    return next((event for event in reversed(found) if time_of(event.end) <= as_of), None)


def _base(model: Model, live: LiveVersion, as_of: datetime) -> dict[str, Any]:
    return {
        "as_of": as_of.isoformat(),
        "champion": live.version,
        "digest": live.digest,
        "rule": model.policy.rule,
    }


def _of_look(look: Mapping[str, Any] | None) -> dict[str, Any]:
    if look is None:
        return {"says": "wait", "decision": "wait", "why": "the rule goes by a look at drift, and none was made"}
    flips = str((look.get("receipt") or {}).get("would_flip", ""))
    return {"says": look["decision"], "decision": look["decision"], "why": str(look["said"]), "flips": flips}


def _of_value(value: Value, known: Known, unit: float) -> dict[str, Any]:
    """What a retrain is expected to save, for a rule that does not say: by the rule `value`."""
    saving, low, high, ahead = value.expected(known)
    told = "this rule asks neither what a retrain saves nor what it costs; what it would save is told by the rule value"
    return {"saving": saving * unit, "low": low * unit, "high": high * unit, "ahead": ahead, "basis": told}


def _of_decision(decision: Decision, history: LiveHistory, unit: float) -> dict[str, Any]:
    to = history.versions[decision.version].package if decision.version is not None else None
    money = {
        key: None if value is None else value * unit
        for key, value in (("saving", decision.saving), ("low", decision.low), ("high", decision.high))
    }
    return {
        "says": decision.action,
        "decision": decision.action,
        "why": decision.why,
        "flips": decision.flips,
        "version": to.version if to else "",
        "to_digest": to.digest if to else "",
        "score": decision.score,
        "limit": decision.limit,
        "ahead": decision.ahead,
        **money,
    }


def _shown(decision: Decision, history: LiveHistory, held: str) -> str:
    if decision.action == "go back" and decision.version is not None:
        return f"go back to version {history.versions[decision.version].package.version}"
    return f"{decision.action}, held back" if held and decision.action == "retrain" else decision.action


def _table(history: LiveHistory) -> list[dict[str, Any]]:
    """The losses of the windows that have any."""
    import numpy as np

    known: Known = history.known
    found = []
    for w, start in enumerate(history.starts):
        of = {
            each.package.version: float(known.losses[v, w])
            for v, each in enumerate(history.versions)
            if not np.isnan(known.losses[v, w])
        }
        if of:
            found.append({"start": start.isoformat(), "rows": int(history.labelled[w]), "by_version": of})
    return found


def _without_history(
    model: Model, live: LiveVersion, as_of: datetime, look: Mapping[str, Any] | None, why: str
) -> RetrainDecided:
    base = _base(model, live, as_of)
    if model.policy.rule == DRIFT:
        return RetrainDecided(**base, **_of_look(look))
    if model.policy.rule == "never":
        return RetrainDecided(**base, says="wait", decision="wait", why=why, flips="another policy.rule")
    told = f"{why}, so nobody can say what its age costs; of a new version it will be known"
    return RetrainDecided(**base, says="retrain", decision="retrain", why=told, flips="a version that was trained here")
