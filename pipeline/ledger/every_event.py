"""Every kind of event: whoever imports this can read a whole ledger."""

from pipeline.ledger import (  # noqa: F401
    approval_events,
    backtest_events,
    budget_events,
    decision_events,
    freeze_events,
    label_events,
    landed_events,
    prune_events,
    receipt_events,
    rollout_events,
    slo_events,
    usage_events,
)
