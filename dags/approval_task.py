"""The task at which a run waits for a person: `approval: required` in the model's block.

It parks without a worker, a slot or a triggerer, until somebody answers in Airflow or at the command line, or the time is over, which
rejects. Whatever Airflow says, the deployer looks up the approval in the ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.configuration import conf
from airflow.providers.standard.operators.hitl import ApprovalOperator
from dag_parts import RETRIES, skip, tried_again

from pipeline.context import Context
from pipeline.settings.addresses import AIRFLOW_USER

log = logging.getLogger(__name__)

TASK = "approve"


class VersionApproval(ApprovalOperator):
    """Asks whether the version that was registered shall go live. Rejected, by a person or by the time, skips what comes next."""

    template_fields = (*ApprovalOperator.template_fields, "version")

    def __init__(
        self,
        *,
        model: str,
        version: Any,
        hours: float,
        named: tuple[str, ...],
        run_of: Callable[[Any], str],
        is_backfill: Callable[[Any], bool],
        **more: Any,
    ) -> None:
        super().__init__(
            task_id=TASK,
            subject=f"Bring a new version of {model} live?",
            # Airflow takes it when the time is over.
            defaults=self.REJECT,
            response_timeout=timedelta(hours=hours),
            assigned_users=assigned(named),
            # On one machine too: Airflow fails a task that is answered before the executor has told the scheduler that it parked.
            **tried_again(),
            **more,
        )
        self.model, self.version, self.run_of, self.is_backfill = model, version, run_of, is_backfill

    def execute(self, context: Any) -> Any:
        from pipeline.ledger.approval_events import AIRFLOW
        from pipeline.ledger.events import StepEnded
        from pipeline.ledger.metering import read_meter, usage_since
        from pipeline.runs import approval, approval_summary

        begun = read_meter()
        if self.is_backfill(context):
            skip(f"version {self.version} comes from a backfill, which never goes live")
        here = Context.here(context["dag_run"].triggering_user_name)
        if approval.holds(here, self.model, self.version):
            log.info("version %s is approved already", self.version)
            return None
        run = self.run_of(context)
        rejected = approval.rejected_since_asked(here.ledger, self.model, self.version, run)
        if rejected and is_tried_again(context["ti"]):
            skip(rejected)
        asked = approval.ask(here, run, self.model, self.version, AIRFLOW)
        self.subject = approval_summary.subject(self.model, self.version)
        self.body = approval_summary.body(here, self.model, asked)
        # The meter sees no end of a task that parks; what a person takes to answer costs nothing.
        here.ledger.append(StepEnded(state="waiting", **vars(usage_since(begun))), self.model, run, TASK)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        from pipeline.runs import approval

        here = Context.here(context["dag_run"].triggering_user_name)
        by = event.get("responded_by_user")
        answered = {
            "run": self.run_of(context),
            "name": self.model,
            "version": self.version,
            "approved": event.get("chosen_options") == [self.APPROVE],
            "by": by["name"] if by else "",
            "known": users_are_known(),
        }
        log.info("%s", approval.answered(here, **answered))
        return super().execute_complete(context, event)


def is_tried_again(ti: Any) -> bool:
    """Whether Airflow tries the task again after a try that was lost; not when a person cleared it, which gives it all its tries anew."""
    return ti.max_tries - ti.try_number < RETRIES - 1


def assigned(named: tuple[str, ...]) -> list[dict[str, str]] | None:
    """The users whom Airflow lets answer: those of `approval_by`, and the one by which the command line answers, whose own word counts
    for nothing unless it is named. None lets all answer, also where a user's id is another than the name: then we look at the name."""
    if not named or not has_simple_users():
        return None
    return [{"id": name, "name": name} for name in dict.fromkeys((*named, AIRFLOW_USER))]


def has_simple_users() -> bool:
    return conf.get("core", "auth_manager").endswith("SimpleAuthManager")


def users_are_known() -> bool:
    """Whether Airflow has more than one user: the one of a single machine may be several people."""
    if not has_simple_users():
        return True
    if conf.getboolean("core", "simple_auth_manager_all_admins", fallback=False):
        return False
    return len([user for user in conf.get("core", "simple_auth_manager_users", fallback="").split(",") if user]) > 1
