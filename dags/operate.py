"""One operate Dag for each model, triggered by hand only: what a person on call does to live traffic, recorded in the ledger.

`reconcile` makes the model's slots agree with its route and harms nothing, so it is the form's default; `rollback` moves the
route back to the predecessor, and never to a version that was itself rolled back; `undeploy` takes the model off the router and
ends its slots; `freeze` is the stop button: until `unfreeze` no retrain begins and no version goes live but by hand; `prune` removes what
the section `keep` of params.yaml lets go of the model. Other models are
left alone. All go on for a model whose block of params.yaml is broken. A model whose block
was deleted has no such Dag any more: `perennial undeploy MODEL` ends it.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from dag_parts import BY_HAND, each_model, form_values, task_defaults, tell_champion, telling

from pipeline.context import Context
from pipeline.runs.dag_settings import DagSettings

ACTIONS = ["reconcile", "rollback", "undeploy", "freeze", "unfreeze", "prune"]


def operate_dag(model: str, settings: DagSettings) -> Any:
    @dag(
        dag_id=f"operate__{model}",
        description=f"Roll {model} back, reconcile it, freeze it, or take it off the router",
        schedule=None,
        catchup=False,
        max_active_runs=1,
        tags=["perennial", model],
        default_args=task_defaults(BY_HAND),
        params={
            "action": Param("reconcile", enum=ACTIONS, title="Action", description="What to do."),
            "reason": Param("by hand", type="string", title="Reason", description="Why, for the ledger."),
            "version": Param(
                None,
                type=["null", "string"],
                title="Version",
                description="For rollback: leave only this version, which is live or on its way. Empty: whichever it is.",
            ),
        },
        doc_md=__doc__,
    )
    def operate():
        @task(**telling(model))
        def act() -> Any:
            from pipeline.ledger.store import airflow_run
            from pipeline.runs import steps

            context = get_current_context()
            run, form = context["dag_run"], form_values(context)
            here = Context.here(run.triggering_user_name)
            asked = (form["action"], form["reason"], form["version"] or "")
            done = steps.operate(here, airflow_run(run.dag_id, run.run_id), model, *asked)
            tell_champion(model)
            return done

        act()

    return operate()


each_model("operate", operate_dag)
