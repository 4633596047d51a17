"""A script: a model's approval task, tried for the first time, after a lost try, and after a person cleared it; prints what each did."""

import sys
from types import SimpleNamespace

sys.path.insert(0, sys.argv[1])

from airflow.providers.standard.operators import hitl
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowSkipException
from approval_task import VersionApproval

from pipeline.runs import approval, approval_summary

RUN = "retrain__churn/manual"
TRIES = {"first": (1, 5), "lost": (2, 5), "cleared": (2, 6), "lost after it was cleared": (3, 6)}

asked: list[str] = []
approval.holds = lambda context, model, version: False
approval.ask = lambda context, run, model, version, through: asked.append(run)
approval.rejected_since_asked = lambda ledger, model, version, run: f"version {version} rejected by bob" * (run == RUN)
approval_summary.body = lambda context, model, asked: ""
hitl.ApprovalOperator.execute = lambda self, context: None

with DAG("retrain__churn", schedule=None):
    task = VersionApproval(
        model="churn", version="2", hours=24, named=(), run_of=lambda context: RUN, is_backfill=lambda context: False
    )
for name, (number, most) in TRIES.items():
    ti = SimpleNamespace(try_number=number, max_tries=most)
    try:
        task.execute({"ti": ti, "dag_run": SimpleNamespace(triggering_user_name="ann")})
    except AirflowSkipException as skipped:
        print("@@", name, "skipped:", skipped)
    else:
        print("@@", name, "asked", len(asked))
