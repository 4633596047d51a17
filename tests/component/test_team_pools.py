"""The pools of teams in a real Airflow's database: made, set, left alone and removed as params.yaml says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from harness.project import CHURN, change_params, make_project
from tests.component.test_dags import airflow_of

# Each line of its input is code; the answer is what the pools are then, and what was said.
POOLS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow.models.pool import Pool
import team_pools
initdb()
for line in sys.stdin:
    with create_session() as session:
        exec(line)
    said = team_pools.agree()
    with create_session() as session:
        pools = {each.pool: [each.slots, each.description] for each in session.query(Pool)}
    print("@@" + json.dumps([pools, said]), flush=True)
"""


@pytest.fixture(scope="module")
def pools(tmp_path_factory) -> Iterator:
    """Asks an Airflow for its pools after a line of code, which it runs first, and after a change of params.yaml."""
    folder = tmp_path_factory.mktemp("pools")
    project = make_project(folder / "project", {"churn": CHURN})
    env = airflow_of(project, folder) | {"PERENNIAL_HOME": str(project / "home")}
    command = [sys.executable, "-c", POOLS, str(project / "plugins")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as airflow:

        def after(code: str = "pass", **changed):
            for key, value in changed.items():
                change_params(project, key.replace("__", "."), value)
            airflow.stdin.write(code + "\n")
            airflow.stdin.flush()
            told = next(line for line in airflow.stdout if line.startswith("@@"))
            found, said = json.loads(told[2:])
            found.pop("default_pool")
            return {name: slots for name, (slots, _) in found.items()}, said

        yield after
        airflow.stdin.close()


def test_pools_follow_the_teams_of_params_yaml(pools):
    """A team's pool is made, set to its slots, made again when somebody removed it, and gone with its team; others stay."""
    assert pools() == ({}, [])
    made = pools(teams={"growth": {"slots": 4}}, models__churn__team="growth")
    assert made == ({"team__growth": 4}, ["pool team__growth: made, with 4 slots"])
    assert pools() == ({"team__growth": 4}, [])
    assert pools(teams={"growth": {"slots": 1}})[0] == {"team__growth": 1}
    mine = "Pool.create_or_update_pool('team__mine', 7, 'by hand', False, session=session)"
    assert pools(mine)[0] == {"team__growth": 1, "team__mine": 7}
    found, said = pools(teams={"growth": {"slots": 1}, "mine": {"slots": 2}})
    assert found["team__mine"] == 7 and "made by hand and keeps its slots, not 2" in said[0]
    assert pools("Pool.delete_pool('team__growth', session=session)")[0] == {"team__growth": 1, "team__mine": 7}
    # The block is broken now, and its Dags still name the pool.
    assert pools(teams={})[0] == {"team__growth": 1, "team__mine": 7}
    assert pools("Pool.delete_pool('team__growth', session=session)")[0] == {"team__growth": 1, "team__mine": 7}
    found, said = pools(models__churn__team=None)
    assert (found, said) == ({"team__mine": 7}, ["pool team__growth: removed, as its team is gone from params.yaml"])
