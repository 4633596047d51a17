"""A script: runs Dags of a folder with confs of several kinds, and prints the state, the failed tasks and what is noted of each run."""

import sys

sys.path.insert(0, sys.argv[1])

from airflow.dag_processing.dagbag import DagBag
from airflow.utils.db import initdb

from pipeline.context import Context
from pipeline.ledger.events import ChampionTold
from pipeline.ledger.rollout_events import RolloutEnded

UNKNOWN, KNOWN = {"acton": "rollback"}, {"reason": "to see"}
RUNS = (
    *(("operate__churn", UNKNOWN), ("monitor__churn", UNKNOWN), ("retrain__churn", UNKNOWN), ("monitor__churn", None)),
    *(("operate__churn", KNOWN), ("monitor__other", None), ("retrain__other", None), ("operate__other", None)),
    *(("operate__churn", {"action": "freeze"}), ("retrain__churn", None), ("operate__churn", {"action": "unfreeze"})),
    *(("killed", None), ("tells", None)),
)

initdb()
dags = DagBag(dag_folder=sys.argv[1]).dags
ledger = Context.here().ledger
ledger.append(RolloutEnded(version="1", slot="blue", digest="d"), "news")
for dag, conf in RUNS:
    sys.modules["dag_parts"].begun_by_itself = lambda run: run.dag_id == "retrain__churn" and not run.conf
    run = dags[dag].test(run_conf=conf)
    failed = sorted(task.task_id for task in run.get_task_instances() if task.state == "failed")
    noted = [entry.run for entry in ledger.events(ChampionTold, model="news")]
    print("@@", dag, *(conf or {"nothing": ""}), run.state, *(failed if dag.endswith(("churn", "other")) else noted))
