"""A version whose error budget burns soon after its rollout goes back by itself, once, with the reason in the ledger."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

from harness.project import change_params
from pipeline.cli.main import main
from pipeline.context import Context
from pipeline.deployer.burnt_budget import roll_back_burnt
from pipeline.ledger.rollout_events import RolledBack
from pipeline.ledger.slo_events import BudgetBurning
from pipeline.ledger.usage_events import SlotUsed
from pipeline.policy.service_levels import Counted
from pipeline.reliability.counts import Cell, Counts
from pipeline.reliability.watching import Watcher
from pipeline.rollout.routing import route_file
from tests.support.endpoint import agreed, one_engine

SLOW = Counted(requests=50, failed=0, latencies={0.5: 50})


@one_engine
def test_a_slow_version_goes_back_by_itself_and_only_once(endpoint, capsys):
    """The service sees the budget burn and asks for the rollback; asked again, nothing more goes back."""
    change_params(endpoint.project, "models.churn.slo", {"p95_ms": 100})
    for version in ("1", "2"):
        endpoint.deploy(version, "all-at-once")
    assert main(["slo", "churn", "--act"]) == 0
    assert "nothing is rolled back; no budget of the live version burns" in capsys.readouterr().out
    # Four minutes later, of which it was slow for three.
    now, asked = int(time.time()) // 60 * 60 + 300, []
    Counts(endpoint.home).write({Cell("churn", "2", now - 60 * n): SLOW for n in range(1, 4)}, {}, now)
    context = replace(Context.here(), clock=lambda: datetime.fromtimestamp(now, UTC))
    Watcher(context.environment, context.ledger, asked.append, lambda: now).look()
    assert asked == ["churn"]
    # A quarter of an hour later what the slots took is in the ledger, of the older one as a second slot's.
    Watcher(context.environment, context.ledger, [].append, lambda: now + 900).look()
    used = {
        e.event.version: (e.event.second, e.event.covered_s > 900, e.event.busy_s > 0.1)
        for e in context.ledger.events(SlotUsed)
    }
    assert used == {"1": (True, True, True), "2": (False, True, True)}
    assert str(roll_back_burnt(context, "churn")).startswith("churn: back on version 1; slo.p95_ms: 150 of 150 answers")
    assert agreed(endpoint) == "1"
    assert route_file.read(endpoint.home, "churn").previous is None
    again = roll_back_burnt(context, "churn")
    assert (again.rollback, again.reason) == (None, "it has no warm predecessor beside the live version alone")
    (back,) = context.ledger.events(RolledBack, model="churn")
    assert back.event.reason.startswith("an error budget burns within rollout.keep_hours: slo.p95_ms")
    assert [entry.event.severity for entry in context.ledger.events(BudgetBurning)] == ["critical"]
