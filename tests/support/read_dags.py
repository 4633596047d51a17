"""Prints all Dags of each project, and its PERENNIAL_MODE, that it is asked for as plain facts, in a fork of a process that has imported Airflow.

Run with an Airflow home of its own. Nothing of `pipeline` or the project is imported before the fork.
"""

import json
import os
import sys
import traceback

from airflow._shared.timezones import timezone
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.serialization.serialized_objects import DagSerialization


def intervals(dag):
    """What a backfill from December 2013 on would run, after a round trip through the database's form."""
    back = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    if not back.timetable.can_be_scheduled:
        return []
    found = back.iter_dagrun_infos_between(timezone.datetime(2013, 12, 1), timezone.datetime(2014, 3, 1))
    return [[str(i.data_interval.start)[:10], str(i.data_interval.end)[:10]] for i in found]


def assets(dag):
    """The names and URIs of the assets of which an event starts a run, after the same round trip."""
    back = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    found = getattr(back.timetable, "asset_condition", None)
    any_of = getattr(found, "objects", None) or []
    assert type(found).__name__ == "SerializedAssetAny" or not any_of, "one event is enough"
    return sorted(getattr(asset, "name", None) or asset.uri for asset in any_of)


def facts(dag, with_intervals):
    return {
        "tasks": {t.task_id: sorted(t.upstream_task_ids) for t in dag.tasks},
        "pools": {t.task_id: t.pool for t in dag.tasks if t.pool != "default_pool"},
        "priorities": sorted({t.priority_weight for t in dag.tasks}),
        "mapped": {t.task_id: t.map_index_template for t in dag.tasks if isinstance(t, MappedOperator)},
        "rules": {t.task_id: t.trigger_rule.value for t in dag.tasks if t.trigger_rule.value != "all_success"},
        "teardowns": [t.task_id for t in dag.tasks if t.is_teardown],
        "params": {k: {**dag.params.get_param(k).schema, "value": dag.params.get_param(k).value} for k in dag.params},
        "timetable": type(dag.timetable).__name__,
        "starts_on": assets(dag),
        "catchup": dag.catchup,
        "about": dag.description,
        "page": dag.doc_md,
        "end": dag.end_date,
        "task_ends": [t.end_date for t in dag.tasks if t.end_date],
        "intervals": intervals(dag) if with_intervals else [],
    }


def read(project, mode):
    os.environ["PERENNIAL_PROJECT"] = project
    os.environ["PERENNIAL_MODE"] = mode
    dags = f"{project}/dags"
    sys.path.insert(0, dags)  # as the dag processor and the workers have it
    bag = DagBag(dag_folder=dags)
    # Of hundreds of Dags they take half a minute.
    with_intervals = len(bag.dags) < 100
    told = {"errors": bag.import_errors, "dags": {name: facts(dag, with_intervals) for name, dag in bag.dags.items()}}
    print("@@" + json.dumps(told, default=str), flush=True)


for line in sys.stdin:
    if (child := os.fork()) == 0:
        try:
            read(*line.rstrip("\n").split("\t"))
        except BaseException:
            traceback.print_exc()
            print("@@null", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
