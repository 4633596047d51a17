"""Keeps Airflow's pools as `teams` of params.yaml says: at the start of the API server, and every few seconds after.

Airflow never starts a task whose pool is missing, so a pool that somebody removed while Dags name it is made again. It is the API
server that does it: no task runs without it, it has the database, and it does not fork, so that a thread is safe there.
"""

import logging
import threading

from airflow.plugins_manager import AirflowPlugin

EVERY_S = 5.0

log = logging.getLogger(__name__)


class KeepsTeamPools:
    """ASGI middleware that changes no request: it is where a plugin learns that the server has started."""

    def __init__(self, app):
        self._app = app
        self._thread = None

    async def __call__(self, scope, receive, send):
        if self._thread is None:
            self._thread = threading.Thread(target=keep, name="team-pools", daemon=True)
            self._thread.start()
        await self._app(scope, receive, send)


def keep():
    """Makes the pools agree again and again; says each change, and each trouble once."""
    said, pause = set(), threading.Event()
    while True:
        try:
            lines = set(agree())
        except Exception as error:
            # The database may be locked, or away; the next look finds it again.
            lines = {f"the pools of teams could not be compared with params.yaml: {error}"}
        for line in sorted(lines - said):
            log.warning("%s", line)
        said = lines
        pause.wait(EVERY_S)


def agree():
    """Makes Airflow's pools agree with params.yaml; returns a line for each change, and for each that may not be made."""
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session

    from pipeline.context import Context
    from pipeline.runs import team_pools

    wanted = team_pools.wanted(Context.here())
    with create_session() as session:
        there = [team_pools.Pool(each.pool, each.slots, each.description or "") for each in session.query(Pool)]
        changes = team_pools.changes(wanted, there, lambda: waiting(session))
        for change in changes:
            pool = change.pool
            if change.what == "remove":
                Pool.delete_pool(pool.name, session=session)
            elif change.what != "leave":
                Pool.create_or_update_pool(
                    pool.name, pool.slots, pool.description, include_deferred=False, session=session
                )
    return [str(change) for change in changes]


def waiting(session):
    """The pools of tasks that have not ended, of runs that go on."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import State
    from sqlalchemy import or_, select

    going_on = select(TaskInstance.pool).distinct().join(TaskInstance.dag_run)
    going_on = going_on.where(DagRun.state.in_(State.unfinished_dr_states))
    ended = or_(TaskInstance.state.is_(None), TaskInstance.state.not_in(State.finished))
    return set(session.scalars(going_on.where(ended)))


class TeamPoolsPlugin(AirflowPlugin):
    name = "team_pools"
    fastapi_root_middlewares = [{"middleware": KeepsTeamPools, "name": "pools of teams"}]
